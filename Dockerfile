# The server alone; docker-compose.yml puts Redis and PostgreSQL beside it (docs/docker.md).

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# python-ldap is published as source alone.
RUN apt-get update -q && apt-get install -qy --no-install-recommends gcc libldap2-dev libsasl2-dev
COPY pyproject.toml README.md requirements-ldap.lock ./
COPY config config
COPY dictionaries dictionaries
COPY docker/install.sh docker/
COPY radius_mfa radius_mfa
RUN docker/install.sh /opt/radius-mfa ldap

FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -qy --no-install-recommends libldap-2.5-0 libsasl2-2 \
 && rm -rf /var/lib/apt/lists/*
# A number, and one that no user of the host is likely to have: docker/prepare.sh gives it the secrets.
RUN groupadd --gid 10001 radius-mfa \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/radius-mfa \
      --shell /usr/sbin/nologin radius-mfa \
 && install -d -o 10001 -g 10001 -m 0700 /etc/radius-mfa /var/lib/radius-mfa
COPY --from=build /opt/radius-mfa /opt/radius-mfa
ENV PATH=/opt/radius-mfa/bin:$PATH
USER 10001:10001
WORKDIR /var/lib/radius-mfa
EXPOSE 1812/udp
# Asks Status-Server, as a VPN gateway would: a [[client]] must hold 127.0.0.1 (docker/radius-mfa.toml).
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
  CMD ["radius-mfa", "status", "--server-only"]
ENTRYPOINT ["radius-mfa"]
CMD ["serve"]

"""What an operator's graphs are made of. Labels come from the settings and from enumerations."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from radius_mfa.policy.decision import Accept, Challenge, Decision, Reject, RejectReason

_RESULTS = {Accept: "accept", Reject: "reject", Challenge: "challenge"}


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.logins = Counter(
            "radius_mfa_logins",
            "Requests answered, by client, result and what was wrong",
            ["client", "result", "reason"],
            registry=self.registry,
        )
        self.login_seconds = Histogram(
            "radius_mfa_login_seconds",
            "From the arrival of a request to its decision, without the reject delay",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.unanswered = Counter(
            "radius_mfa_logins_unanswered",
            "Logins without a reply, by what had no answer",
            ["client", "backend"],
            registry=self.registry,
        )
        self.discards = Counter(
            "radius_mfa_packets_discarded",
            "Packets owed no reply, and connections refused, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.duplicates = Counter(
            "radius_mfa_replies_resent",
            "Cached replies sent again to a retransmission",
            ["client"],
            registry=self.registry,
        )
        self.locks = Counter(
            "radius_mfa_locks",
            "Locks closed by too many failures",
            ["client"],
            registry=self.registry,
        )
        self.status_server = Counter(
            "radius_mfa_status_server",
            "Status-Server requests answered",
            ["client"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "radius_mfa_requests_in_flight",
            "Requests being worked on",
            registry=self.registry,
        )
        self.connections = Gauge(
            "radius_mfa_tls_connections",
            "Connections over TLS that are open, by client",
            ["client"],
            registry=self.registry,
        )
        self.backend_up = Gauge(
            "radius_mfa_backend_up",
            "1 while the backend answers",
            ["backend"],
            registry=self.registry,
        )
        self.log_lines_lost = Gauge(
            "radius_mfa_log_lines_lost",
            "Lines that the log could not take since the start",
            registry=self.registry,
        )
        self.events_lost = Gauge(
            "radius_mfa_events_lost",
            "Events of logins that Redis was away for too long to take, since the start",
            registry=self.registry,
        )
        self.directory_seconds = Histogram(
            "radius_mfa_directory_seconds",
            "Answers of LDAP servers, by directory, server and operation",
            ["directory", "server", "operation"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.directory_faults = Counter(
            "radius_mfa_directory_faults",
            "Calls that an LDAP server did not answer, by kind of the fault",
            ["directory", "server", "operation", "kind"],
            registry=self.registry,
        )
        self.directory_server_up = Gauge(
            "radius_mfa_directory_server_up",
            "1 while an LDAP server is used, 0 while it is left alone",
            ["directory", "server"],
            registry=self.registry,
        )
        self.hashing_seconds = Histogram(
            "radius_mfa_hashing_seconds",
            "Hashes of local users' passwords, with their wait for a thread",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=self.registry,
        )
        self.mails = Counter(
            "radius_mfa_mails",
            "Mails whose fate is sealed, by kind and fate",
            ["kind", "fate"],
            registry=self.registry,
        )
        self.mails_waiting = Gauge(
            "radius_mfa_mails_waiting",
            "Mails that wait to be sent, on all nodes together",
            registry=self.registry,
        )
        self._of_calls: dict[tuple[str, str, str], Histogram] = {}
        self._of_logins: dict[tuple[str, str, RejectReason | None], Counter] = {}

    def count_call(
        self, directory: str, server: str, operation: str, fault: str, seconds: float
    ) -> None:
        """Count a call to an LDAP server; *fault* is empty where it was answered."""
        if fault:
            self.directory_faults.labels(directory, server, operation, fault).inc()
            return
        histogram = self._of_calls.get((directory, server, operation))
        if histogram is None:
            histogram = self.directory_seconds.labels(directory, server, operation)
            self._of_calls[directory, server, operation] = histogram
        histogram.observe(seconds)

    def count_login(self, client: str, decision: Decision) -> None:
        """Count an answered login; a child of the counter is looked up once, which is slow."""
        reason = None if isinstance(decision, Accept) else decision.reason
        result = _RESULTS[type(decision)]
        counter = self._of_logins.get((client, result, reason))
        if counter is None:
            counter = self.logins.labels(client, result, reason or "")
            self._of_logins[client, result, reason] = counter
        counter.inc()

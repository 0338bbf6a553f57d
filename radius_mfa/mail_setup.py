"""The settings of ``[mail]`` as its parts know them: server, texts, sender.

Imported where mails are sent alone: the templates' library costs every other process its memory.
"""

from radius_mfa.config import Settings
from radius_mfa.mails.message import Sender
from radius_mfa.mails.texts import Texts
from radius_mfa.server.mail_sender import Writer
from radius_mfa.stores.smtp import SmtpOptions, SmtpServer


def smtp_server(settings: Settings) -> SmtpServer:
    """Return the mail server of *settings*."""
    mail = settings.mail
    password = mail.password
    return SmtpServer(
        SmtpOptions(
            mail.host,
            mail.port,
            mail.tls,
            mail.ca_file,
            mail.verify_certificate,
            mail.username,
            password.get_secret_value() if password else "",
            mail.timeout_seconds,
        )
    )


def writer(settings: Settings) -> Writer:
    """Return who writes mails; ConfigurationError names a mistake in mail.template_folder."""
    mail = settings.mail
    sender = Sender(mail.from_address, mail.from_name or settings.totp.issuer, mail.reply_to)
    return Writer(Texts(mail.template_folder), sender, settings.portal.base_url)

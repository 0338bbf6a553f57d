"""The web portal: pages that work without JavaScript, in a process of their own.

How a page comes about, for whoever adds one:

- ``gate`` stands in front of everything: the Host, the peer's address, security headers, faults.
- ``visit.Visit`` is one request as a page sees it: whose session it is, the form that was sent,
  ``page`` to render a template, ``go`` to send the browser on. A POST has met the check of its
  origin and token before any page runs: ``visitor`` does it for every route of the app.
- A route asks for a ``Visitor`` (anybody), a ``SignedIn`` or another dependency that raises ``Go``
  where somebody else has to come first. Its module makes an ``APIRouter`` that ``web`` includes.
- Texts stand in the page's template or, where code chooses one, in ``texts``. Templates extend
  ``layout.html`` (or a layout of an area that does) and use the macros of ``form.html``.
- An ``Area`` is a part with sessions of its own: a path that it begins with, a cookie, a sign-in
  page, and the ``kind`` of its sessions.

Logins are decided by ``authentication.login`` alone, as for the VPN.
"""

"""Texts that code chooses among; every other text of a page stands in its template."""

from radius_mfa.policy.requirement import MAX_DAYS
from radius_mfa.policy.roles import MIN_PASSWORD_CHARACTERS
from radius_mfa.stores.events import ADMIN_PORTAL, PORTAL

ERRORS = {
    "sign_in_refused": "That did not work. Check the name and the password and try again. "
    "After several failures sign-in is closed for a while.",
    "code_refused": "That code did not work. Each code works once: wait for the next one. "
    "After several failures sign-in is closed for a while.",
    "device_gone": "The device of these codes was removed meanwhile.",
    "codes_refused": "These are not two codes in a row of one of your devices, or one was used "
    "before. Begin again with the code that the app shows now.",
    "first_code": "That is not the code this device shows now. Is the phone's clock set "
    "automatically? Wait for the next code and type it.",
    "device_name": "A name has 1 to 64 characters that can be seen.",
    "device_name_taken": "You have a device of that name already. Choose another one.",
    "password_short": f"A password has at least {MIN_PASSWORD_CHARACTERS} characters.",
    "passwords_differ": "The two do not agree. Type the new password twice.",
    "password_same": "That is the password you were given. Choose another one.",
    "days_wrong": f"Days are a number up to {MAX_DAYS}, and at least 1 where more time is given.",
    "until_wrong": f"An exemption ends on a day to come, within {MAX_DAYS} days.",
    "reason_wrong": "An exemption needs a reason, so that whoever finds it later knows why.",
    "not_yourself": "You can't do that to yourself: somebody else has to.",
    "nobody_ticked": "Nobody is ticked. Go back and tick users, or choose all that are listed.",
    "too_many_users": "That is too many at once for this page. List fewer of them.",
    "user_gone": "Somebody of them is not on record any more. Nothing was changed; list them anew.",
    "act_refused": "That can't be done as it stands. Somebody may have changed it meanwhile.",
    "group_unknown": "No directory has a group of that name.",
    "group_several": "Several groups are called so. Take the one that is meant.",
    "group_empty": "Nobody in that group is a user who could log in.",
    "group_refused": "That is too much for this page, or no group that can be had whole. The "
    "command line takes more and says why not: radius-mfa user require --group.",
    "group_changed": "The group, or who is required, has changed meanwhile. Look again.",
    "directory_away": "A directory that may have the group does not answer, or not quickly enough. "
    "Nothing was changed: try again, or choose another directory.",
    "not_ready_to_sign": "It was not seen to sign every request: it would be cut off. Wait, or "
    "switch Message-Authenticator on there.",
    "too_many_devices": "You have as many devices as there can be. Remove one first.",
}
"""Why a form is shown again."""

NOTICES = {
    "signed_out": "You are signed out.",
    "session_over": "Your session is over. Please sign in again.",
    "device_added": "The device is set up. Its codes work from now on.",
    "device_removed": "The device is removed. Its codes do not work any more.",
    "device_renamed": "The device has its new name.",
    "resynced": "The codes of that device work again.",
    "not_me": "Your admins can see now that it was not you. Change your password.",
    "session_ended": "That session is ended.",
    "act_done": "Done.",
    "signature_required": "Requests of that client without Message-Authenticator are discarded "
    "on every node within seconds.",
    "signature_left": "Whether that client signs is left to the configuration again.",
    "act_changed_nothing": "That is so already: nothing was changed.",
    "signed_out_everywhere": "You are signed out, here and everywhere else.",
}
"""What was done by the page before."""

PLACES = {PORTAL: "this portal", ADMIN_PORTAL: "the admin portal"}
"""Where a login was that was not at the VPN."""

FAULTS: dict[int | str, tuple[str, str]] = {
    "admins": (
        "That is not yours to do",
        "Among them is somebody with a role in the admin portal: only an admin may change them.",
    ),
    "device_gone": (
        "That device is not there any more",
        "It was removed meanwhile, in another window or by an admin.",
    ),
    "user_gone": (
        "That user is not on record",
        "They were deleted meanwhile, or the address is not one of a user.",
    ),
    409: (
        "Somebody was faster",
        "What this was about was changed or removed meanwhile. Go back and load the page again.",
    ),
    "often": ("That was very often", "You have changed much within an hour. Come back in an hour."),
    "role": ("That is not yours to do", "Your role does not include it. Ask an admin to do it."),
    400: ("That request can't be read", "Go back, load the page again, and try once more."),
    403: (
        "This form can't be taken",
        "It was open for too long. Load the page again; cookies must be allowed for this site.",
    ),
    404: ("There is no such page", "The address may have been typed wrong, or the page is gone."),
    405: ("That is not how this page works", "Go back and use the buttons of the page."),
    413: ("That is too much", "Go back and send less."),
    421: ("This portal has another address", "Use the address that you were given for it."),
    429: ("Too many tries", "Wait a minute, then try again."),
    500: (
        "Something went wrong here",
        "Nothing was changed as far as we know. Try again; if it stays like this, tell your admin.",
    ),
    503: (
        "The portal can't work just now",
        "A part that it needs does not answer. In a minute, look what was done, and try again.",
    ),
}
"""Title and advice of each page that stands for a fault, by status."""

"""Sign-in through an identity provider: OpenID Connect Core 1.0, authorization code with PKCE (RFC 7636), state and nonce.

The provider says who somebody is and, in a claim, what they may do; a table in the settings says which role that is. Nobody
whom the table does not know gets in.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from clinician_dashboard.access.errors import SignInFailed
from clinician_dashboard.access.oidc_settings import OidcSettings
from clinician_dashboard.access.roles import Role

ALGORITHMS: Final = ["RS256", "ES256"]
LEEWAY_S: Final = 60
ANSWERED_WITHIN_S: Final = 600.0
MAX_WAITING: Final = 2000
KNOWN_FOR_S: Final = 3600.0
KEYS_AGAIN_AFTER_S: Final = 30.0
TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 1_000_000


@dataclass(frozen=True)
class Person:
    """Whom the provider named.

    Attributes:
        subject: The provider and its own, unchanging name of the person.
        login: As the provider calls the person.
        full_name: As the provider writes the name.
        role: By the table in the settings.
    """

    subject: str
    login: str
    full_name: str
    role: Role


@dataclass(frozen=True)
class _Begun:
    nonce: str
    verifier: str
    redirect: str
    where: str
    until: float


@dataclass
class _Known:
    """What the provider says of itself."""

    configuration: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=dict)
    until: float = 0.0
    keys_at: float = -KNOWN_FOR_S


class Provider:
    """The identity provider.

    Args:
        settings: Which one, and how its claims are read.
        clock: Seconds that only rise.
    """

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: OrderedDict[str, _Begun] = OrderedDict()
        self._known = _Known()

    @property
    def label(self) -> str:
        """What the button says."""
        return self._settings.label

    def begin(self, *, redirect: str, where: str) -> tuple[str, str]:
        """Begin a sign-in.

        Args:
            redirect: The address that the provider sends the browser back to.
            where: The page to go to afterwards.

        Returns:
            The provider's address to send the browser to, and the state, which the browser must keep.

        Raises:
            SignInFailed: If the provider does not answer.
        """
        endpoint = str(self._configuration()["authorization_endpoint"])
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        begun = _Begun(
            secrets.token_urlsafe(32), verifier, redirect, where, self._clock() + ANSWERED_WITHIN_S
        )
        with self._lock:
            self._begun[state] = begun
            while len(self._begun) > MAX_WAITING:
                self._begun.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._settings.client_id,
                "redirect_uri": redirect,
                "scope": " ".join(self._settings.scopes),
                "state": state,
                "nonce": begun.nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}", state

    def finish(self, *, state: str, kept: str, code: str, issuer: str = "") -> tuple[Person, str]:
        """Take the provider's answer.

        Args:
            state: From the answer.
            kept: The state that this browser kept.
            code: From the answer.
            issuer: Who says that it answers (RFC 9207), where it does.

        Returns:
            Whom it named, and the page to go to.

        Raises:
            SignInFailed: If any of it is not as it must be.
        """
        if not state or not hmac.compare_digest(state.encode(), kept.encode()):
            raise SignInFailed("This sign-in was begun in another browser, or too long ago: begin again.")
        with self._lock:
            begun = self._begun.pop(state, None)  # an answer is good once
        if begun is None or self._clock() > begun.until:
            raise SignInFailed("This sign-in was begun too long ago: begin again.")
        configuration = self._configuration()
        if issuer and issuer != configuration["issuer"]:
            raise SignInFailed("Another provider answered than the one that was asked.")
        tokens = self._redeem(code, begun, str(configuration["token_endpoint"]))
        claims = self._claims(str(tokens.get("id_token", "")), begun)
        return self._person(claims), begun.where

    def _redeem(self, code: str, begun: _Begun, endpoint: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": begun.redirect,
            "client_id": self._settings.client_id,
            "code_verifier": begun.verifier,
        }
        try:
            secret = self._settings.read_secret()
        except OSError as error:
            raise SignInFailed(
                f"client_secret_file cannot be read ({error.strerror}): an admin of the machine helps."
            ) from None
        return self._ask("POST", endpoint, form=form, secret=secret)

    def _claims(self, token: str, begun: _Begun) -> dict[str, Any]:
        """Return the claims of an ID token that is what it must be (Core 1.0, section 3.1.3.7)."""
        from joserfc import jwk, jwt  # noqa: PLC0415 - an extra
        from joserfc.errors import JoseError  # noqa: PLC0415

        last: Exception | None = None
        for anew in (False, True):
            keys = self._keys(anew=anew)
            if keys is None:
                break
            try:
                read = jwt.decode(token, jwk.KeySet.import_key_set(keys), algorithms=ALGORITHMS)  # type: ignore[arg-type]
            except (JoseError, ValueError, TypeError, KeyError) as error:
                last = error  # perhaps the provider has a new key
                continue
            claims = dict(read.claims)
            self._check(claims, begun)
            return claims
        raise SignInFailed(f"The provider's ID token is not accepted ({type(last).__name__}).")

    def _check(self, claims: dict[str, Any], begun: _Begun) -> None:
        at = time.time()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        client = self._settings.client_id
        faults = {
            "issuer": claims.get("iss") != self._configuration()["issuer"],
            "audience": client not in audiences
            or ((len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client),
            "expiry": not _is_number(claims.get("exp")) or at > claims["exp"] + LEEWAY_S,
            "time of issue": not _is_number(claims.get("iat")) or claims["iat"] > at + LEEWAY_S,
            "not before": "nbf" in claims
            and (not _is_number(claims["nbf"]) or claims["nbf"] > at + LEEWAY_S),
            "nonce": not hmac.compare_digest(str(claims.get("nonce", "")).encode(), begun.nonce.encode()),
            "subject": not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 200,  # noqa: PLR2004
        }
        wrong = [name for name, fault in faults.items() if fault]
        if wrong:
            raise SignInFailed(f"The provider's ID token is not accepted: wrong {', '.join(wrong)}.")

    def _person(self, claims: dict[str, Any]) -> Person:
        settings = self._settings
        found = _at(claims, settings.role_claim)
        values = (
            [str(one) for one in found]
            if isinstance(found, list)
            else [str(found)]
            if found is not None
            else []
        )
        role = next((role for value, role in settings.roles.items() if value in values), None)
        if role is None:
            raise SignInFailed(
                "Your organisation knows you, and gives you no role here: ask for one of the groups that this dashboard lets in."
            )
        login = str(_at(claims, settings.name_claim) or "")
        return Person(
            f"{claims['iss']}#{claims['sub']}"[:300],
            login,
            str(_at(claims, settings.full_name_claim) or login),
            role,
        )

    # What the provider says of itself

    def _configuration(self) -> dict[str, Any]:
        with self._lock:
            if self._clock() < self._known.until:
                return self._known.configuration
        issuer = self._settings.issuer
        found = self._ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise SignInFailed(
                f"The provider at {issuer} calls itself otherwise: an admin of the machine corrects 'issuer'."
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not OidcSettings.is_secure(str(found.get(name, ""))):
                raise SignInFailed(f"The provider's {name} is no https address.")
        with self._lock:
            self._known.configuration = found
            self._known.until = self._clock() + KNOWN_FOR_S
        return found

    def _keys(self, *, anew: bool) -> dict[str, Any] | None:
        """Return the provider's keys; none where they were asked for just now."""
        with self._lock:
            age = self._clock() - self._known.keys_at
            if not anew and self._known.keys and age < KNOWN_FOR_S:
                return self._known.keys
            if anew and age < KEYS_AGAIN_AFTER_S:
                return None
        found = self._ask("GET", str(self._configuration()["jwks_uri"]))
        with self._lock:
            self._known.keys, self._known.keys_at = found, self._clock()
        return found

    def _ask(
        self, method: str, address: str, *, form: dict[str, str] | None = None, secret: str | None = None
    ) -> dict[str, Any]:
        import httpx  # noqa: PLC0415 - an extra

        auth = httpx.BasicAuth(self._settings.client_id, secret) if secret else None
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream(
                    method, address, data=form, auth=auth, headers={"Accept": "application/json"}
                ) as answer,
            ):
                content = b""
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER_BYTES:
                        raise SignInFailed("The provider's answer is too long.")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise SignInFailed(
                f"The identity provider does not answer ({type(error).__name__}): try again, or sign in with a password."
            ) from None
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if status != 200 or not isinstance(found, dict):  # noqa: PLR2004 - OK
            raise SignInFailed(f"The identity provider refused ({status}).")
        return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(claims: dict[str, Any], path: str) -> Any:
    """Return a claim, or one inside of others: ``realm_access.roles``."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found

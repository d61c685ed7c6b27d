"""What a pass is told of its sandbox's image: what may run, by which digest.

Theory of operation. Holds the policies as an informer of them has last told, understood; and the sandboxes that asked
before they were known. A pass calls `admitted` before it carries anything out, and gets an `Admission` at once. Always
true: what is verified and what is run is one digest, which goes into the blueprint; the tag beside it only informs.
While anything is not known nothing is made of an image that somebody may refuse, and what runs goes on. The digest that
a tag stood for is in the sandbox's status, and stays what runs until the spec names another image: that a tag was moved
exchanges nothing by itself. A status is believed for which digest it is, and not for that it is signed, but for this: a
registry's silence about a digest that was signed before is no news of what runs.

A crash loses nothing: policies are listed again, and registries asked again.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from claude_sandbox.api.conditions import Reason
from claude_sandbox.api.fields.compliance import Level
from claude_sandbox.api.fields.update_policy import Requires, Strategy, UpdatePolicy
from claude_sandbox.api.references import Reference, parse
from claude_sandbox.api.spec import ClaudeSandboxSpec
from claude_sandbox.api.status_fields.image import ImageStatus
from claude_sandbox.backends.base import Failure
from claude_sandbox.backends.docker.hosts.secrets import HostSecrets
from claude_sandbox.blueprint.model import Blueprint, Image
from claude_sandbox.controller.images import updates
from claude_sandbox.controller.images.canaries import under_way
from claude_sandbox.controller.images.looks import Looks
from claude_sandbox.controller.images.policies import NOT_ASKED, Demand, ImageRefusedError, Policy, judged, understood
from claude_sandbox.controller.images.registry.client import RegistryClient
from claude_sandbox.controller.images.updates import NO_WORK, Newest, Work
from claude_sandbox.controller.images.verification import SILENT_FOR, Answer, Verification
from claude_sandbox.controller.images.waves import Waves
from claude_sandbox.controller.sandboxes.store import Key, Raw, key_of
from claude_sandbox.kubernetes_api.client import Api, Obj
from claude_sandbox.kubernetes_api.informers.informer import Informer, Timings
from claude_sandbox.kubernetes_api.resources import IMAGE_POLICIES

_LOOKS = 5.0
"""Seconds between two looks at a newer image that waits or is tried."""
_UNSIGNED = (
    "Profile Production takes by itself only what is signed, and no ClaudeImagePolicy asks for a signature of it: have"
    " an administrator write publicKeys, or write its digest."
)
_ABSENT = "(404)"
"""In what is said of a kind that the server does not know: then there are no policies."""


@dataclass(frozen=True)
class Admission:
    """What may run. `image`: it, by its digest where that is known; `status`: what is to be said of it.

    `held`: nothing may be made of it. `failure` says why, where that is known; with `before` only if nothing runs.
    `ends`: what runs of it has to end; `replaces`: it has to give way to what the image is now, whatever the spec says
    of a workload that differs. `tries`: what may be tried beside it. `turned`: what is to be said is news, by which the
    next pass goes. `again`: seconds until it is worth another look.
    """

    image: Image
    status: ImageStatus | None = None
    held: bool = False
    failure: Failure | None = None
    before: bool = False
    ends: bool = False
    again: float | None = None
    replaces: bool = False
    tries: Image | None = None
    turned: bool = False

    @property
    def refused(self) -> str:
        """Why a policy refuses the image; empty where none does, or where that is not known."""
        is_refused = self.failure is not None and self.failure.reason is Reason.IMAGE_NOT_ALLOWED
        return self.failure.message if self.failure is not None and is_refused else ""


class ImageGate:
    """Of one operator. `labels_of` gives a namespace's labels, None where they are not known; `sandboxes` all keys,
    and `sandboxes_of` what is known of those of a namespace.

    `own_namespace`: where the Secrets are that registries are logged in to with.
    """

    def __init__(
        self,
        api: Api,
        labels_of: Callable[[str], Any],
        sandboxes: Callable[[], tuple[Key, ...]],
        sandboxes_of: Callable[[str], Iterable[Raw]],
        wake: Callable[[Key], None],
        resync: float,
        check_interval: float = 900.0,
        own_namespace: str = "",
    ) -> None:
        self._check_interval = check_interval
        self._labels_of = labels_of
        self._sandboxes = sandboxes
        self._waves = Waves(sandboxes_of)
        self._looks = Looks()
        self._wake = wake
        self._informer = Informer(api, IMAGE_POLICIES, on_change=self._changed, pace=Timings(resync=resync * 2))
        self._policies: dict[str, Policy] = {}
        self._waiting: set[Key] = set()
        self._client = RegistryClient()
        self.verification = Verification(self._client, wake, HostSecrets(api, own_namespace).login)

    def following(self) -> list[Coroutine[Any, Any, None]]:
        """What follows the API server, for ever."""
        return [self._informer.run(), self._wake_first()]

    async def close(self) -> None:
        """End what is under way."""
        await self.verification.close()
        await self._client.__aexit__()

    async def _wake_first(self) -> None:
        await self._informer.settled.wait()
        # Whoever asks from now on is answered.
        waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self._wake(key)

    def _changed(self, before: Obj | None, now: Obj | None) -> None:
        live = now or before
        assert live is not None  # noqa: S101 - one of them is there
        if now is None:
            self._policies.pop(live["metadata"]["name"], None)
        else:
            # Understood once, not by each pass. One that is not understood refuses all that it may be about.
            self._policies[live["metadata"]["name"]] = understood(now)
        for key in self._sandboxes():
            self._wake(key)

    def admitted(
        self, raw: Raw, spec: ClaudeSandboxSpec, blueprint: Blueprint, now: datetime, work: Work = NO_WORK
    ) -> Admission:
        """What may run of a sandbox that is to run. `work`: what runs of one whose image is exchanged by itself."""
        key, image = key_of(raw), blueprint.image
        if not self._informer.settled.is_set():
            self._waiting.add(key)
            return Admission(image, _previous(raw), held=True)
        # A cluster without the CRD has no policies; one that refuses the list may have some.
        if not self._informer.readable and _ABSENT not in self._informer.why_not:
            return self._unread(raw, spec, image)
        policies = self._about(key.namespace)
        # Read by a model: it was written by an operator, perhaps of another version, or by who may write statuses.
        previous = _previous(raw)
        if spec.image is None and not any(one.judges_operator for one in policies):
            return Admission(image)
        # With a status there is a digest that has to stay what runs, also when the policies that asked for it are gone.
        if not policies and previous is None and not spec.follows_tag:
            return Admission(image)
        try:
            operators = self._demand_of_operators(policies, blueprint)
            demand = judged(policies, _named(image)) if spec.image is not None else None
        except ImageRefusedError as error:
            return _refused(image, previous, str(error), ends=error.ends)
        if operators is not None and (refused := self._unsigned(operators, key, image, previous)) is not None:
            return refused
        if demand is None:
            return Admission(image)
        return self._by_digest(demand, key, image, previous, _Wish(spec, work, now))

    def _about(self, namespace: str) -> tuple[Policy, ...]:
        labels = self._labels_of(namespace)
        return tuple(one for one in self._policies.values() if one.about(None if labels is None else dict(labels)))

    def _demand_of_operators(self, policies: tuple[Policy, ...], blueprint: Blueprint) -> Demand | None:
        """What is asked of the operator's image, which the sandbox runs or has brought into its own.

        Raises ImageRefusedError.
        """
        judging = tuple(one for one in policies if one.judges_operator)
        if not judging:
            return None
        named = _named(blueprint.tools.image if blueprint.tools is not None else blueprint.image)
        demand = judged(judging, named)
        # Of a tag nobody could say later which image it was; the operator's own is not exchanged for what a pin says.
        if (demand.signers and not named.digest) or demand.image.digest != named.digest:
            message = (
                f"ClaudeImagePolicy {judging[0].name} judges the operator's image too, and {named} is not named by a"
                " digest that it permits: have its administrator start it with --sandbox-image, or --claude-code,"
                " and a digest."
            )
            raise ImageRefusedError(message, ends=any(one.ends for one in judging))
        return demand

    def _by_digest(
        self, demand: Demand, key: Key, image: Image, previous: ImageStatus | None, wish: "_Wish"
    ) -> Admission:
        """The image by the digest that it stands for, if that is signed where it has to be."""
        named = _named(image)
        # What the status says of another name counts for nothing: the spec is what names the image.
        before = previous if previous is not None and previous.named == str(named) else None
        follows = wish.asked is not None and demand.image.digest == named.digest
        if follows and demand.registry is None:
            return _refused(image, before, NOT_ASKED.format(registry=named.registry), ends=False)
        digest = demand.image.digest
        if before is not None and (not digest or (follows and wish.auto)):
            # Not asked again what the tag stands for: that it was moved exchanges nothing by itself.
            digest = before.digest
        if not digest:
            if not demand.signers and not follows:
                return Admission(image)
            found = self.verification.digest_of(demand, key, self._check_interval if follows else SILENT_FOR)
            if found is None or not found.good:
                return _not_yet(image, before, found, before=False)
            digest = found.digest
        fresh = ImageStatus(named=str(named), digest=digest, since=wish.now.replace(microsecond=0))
        status = before if before is not None and before.digest == digest else fresh
        # While a newer image takes its place that one is what runs, and so what has to be signed.
        tried = status.rolling.to if status.rolling is not None else digest
        if (refused := self._unsigned(_of(demand, tried), key, image, before)) is not None:
            withdrawn = status.rolling is not None and refused.failure is not None and refused.failure.permanent
            return replace(refused, status=updates.withdrawn(status, wish.work, wish.now)) if withdrawn else refused
        status = status.model_copy(update={"verified": demand.words})
        if follows:
            return self._followed(demand, key, Admission(_at(image, tried), status), wish)
        if not demand.signers and digest == named.digest:
            return Admission(image)
        nothing = {"available": None, "rolling": None, "canary": None}
        return Admission(_at(image, digest), status.model_copy(update=nothing))

    def _followed(self, demand: Demand, key: Key, admission: Admission, wish: "_Wish") -> Admission:
        """The same, and what is done about a newer image: it is written down now, and carried out by the next pass."""
        status, asked = admission.status, wish.asked
        assert status is not None  # noqa: S101 - the caller's promise
        assert asked is not None  # noqa: S101 - the caller's promise
        newest, again = self._newest(demand, key, wish)
        # Before it is asked whose turn it is: what this sandbox began must not count against itself.
        self._waves.passed(key)
        turn = self._turn(demand, key, status, newest, wish)
        work = replace(wish.work, missed=self._looks.missed(key, status.rolling or under_way(status), wish.now))
        stepped = updates.stepped(asked, status, newest, work, wish.now, turn)
        goes_on = stepped.rolling or under_way(stepped)
        if work.sees and goes_on is not None:
            self._looks.looked(key, goes_on, wish.now)
        canary, tried = under_way(stepped), under_way(status)
        if (stepped.rolling is not None and status.rolling is None) or (canary is not None and tried is None):
            self._waves.began(key, status.named, wish.now)
        if (stepped.replaces, stepped.digest) != (status.replaces, status.digest) or bool(canary) != bool(tried):
            # What was decided is carried out by the next pass, once it is written.
            again = 0.0
        elif stepped.rolling is not None or (wish.auto and stepped.available is not None):
            again = min(again, _LOOKS)
        gives_way = updates.replaces(status, wish.work)
        found = replace(admission, status=stepped, again=again, replaces=gives_way, turned=stepped != status)
        if canary is None or tried is None or tried.to != canary.to or newest is None or not newest.permitted:
            # What is not written yet, and what is not known to be permitted, is not begun.
            return found
        return replace(found, tries=_at(admission.image, canary.to))

    def _turn(self, demand: Demand, key: Key, status: ImageStatus, newest: Newest | None, wish: "_Wish") -> str:
        """Why others of the namespace go first; empty where none do."""
        trying = status.rolling is not None or under_way(status) is not None
        if demand.at_a_time is None or trying or newest is None or newest.digest == status.digest:
            return ""
        return self._waves.waits_for(key, status.named, newest.digest, demand.at_a_time, wish.now)

    def _newest(self, demand: Demand, key: Key, wish: "_Wish") -> tuple[Newest | None, float]:
        """What the tag stands for now, and seconds until that is worth another look."""
        found = self.verification.digest_of(demand, key, self._check_interval)
        if found is None or not found.good:
            return None, _LOOKS
        again = found.again or self._check_interval
        if wish.auto and wish.spec.in_production and not demand.wants_signature:
            return Newest(found.digest, permitted=False, message=_UNSIGNED), again
        if not demand.signers:
            return Newest(found.digest), again
        signed = self.verification.signed(_of(demand, found.digest), key)
        if signed is None or not signed.certain:
            # Not known whether it is signed, as long as that is being asked.
            return Newest(found.digest, None), again
        return Newest(found.digest, signed.good, signed.message), again

    def _unsigned(self, demand: Demand, key: Key, image: Image, previous: ImageStatus | None) -> Admission | None:
        """Why it may not run, or not yet; None where it may."""
        if not demand.signers:
            return None
        answer = self.verification.signed(demand, key)
        if answer is not None and answer.good:
            return None
        # By just these policies: a status can say it of no others.
        told = previous is not None and (previous.digest, previous.verified) == (demand.image.digest, demand.words)
        pinned = _at(image, demand.image.digest) if demand.image.repository == _named(image).repository else image
        return _not_yet(pinned, previous, answer, before=told)

    def _unread(self, raw: Raw, spec: ClaudeSandboxSpec, image: Image) -> Admission:
        if spec.image is None:
            return Admission(image, _previous(raw))
        message = (
            "The operator may not list ClaudeImagePolicies, so that it can't tell whether the image may run: give its"
            " account the roles of manifests/rbac."
        )
        failure = Failure(Reason.PERMISSION_DENIED, message, permanent=True)
        return Admission(image, _previous(raw), held=True, failure=failure, again=60.0)


@dataclass(frozen=True)
class _Wish:
    """What a pass asks of the gate, and when."""

    spec: ClaudeSandboxSpec
    work: Work
    now: datetime

    @property
    def asked(self) -> UpdatePolicy | None:
        """What is to become of newer images, with what the gate requires by the profile; None: nothing."""
        found = self.spec.update_policy if self.spec.follows_tag else None
        if found is None or found.gate.requires is not None:
            return found
        strict = self.spec.in_production or self.spec.compliance.level is Level.HARDENED
        requires = Requires.COMPLIANT if strict else Requires.READY
        return found.model_copy(update={"health_gate": found.gate.model_copy(update={"requires": requires})})

    @property
    def auto(self) -> bool:
        """Whether newer ones are taken."""
        return self.asked is not None and self.asked.strategy is Strategy.AUTO


def _of(demand: Demand, digest: str) -> Demand:
    return replace(demand, image=replace(demand.image, digest=digest))


def _refused(image: Image, previous: ImageStatus | None, message: str, *, ends: bool) -> Admission:
    failure = Failure(Reason.IMAGE_NOT_ALLOWED, message, permanent=True)
    return Admission(image, previous, held=True, failure=failure, ends=ends)


def _not_yet(image: Image, previous: ImageStatus | None, answer: Answer | None, *, before: bool) -> Admission:
    """`before`: what runs was signed when it was looked at last."""
    if answer is None:
        return Admission(image, previous, held=True)
    if answer.certain:
        refused = _refused(image, previous, answer.message, ends=any(one.ends for one in answer.refused))
        return replace(refused, again=answer.again)
    failure = Failure(Reason.RETRYING, answer.message, permanent=False)
    return Admission(image, previous, held=True, failure=failure, before=before, again=answer.again)


def _named(image: Image) -> Reference:
    """The image with its registry. The schema lets nothing pass that is none."""
    found = parse(image.reference)
    if found is None:
        raise ImageRefusedError(f"{image.reference} is no image's name with a repository.", ends=False)
    return found


def _at(image: Image, digest: str) -> Image:
    named = image.reference.partition("@")[0]
    return replace(image, reference=f"{named}@{digest}", digest=digest) if digest else image


def _previous(raw: Raw) -> ImageStatus | None:
    return image_status((raw.get("status") or {}).get("image"))


def image_status(told: Any) -> ImageStatus | None:
    """What a status says of the image; nothing where that can't be read, as of another version."""
    try:
        return ImageStatus.model_validate(told) if told else None
    except ValidationError:
        return None

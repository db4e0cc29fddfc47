"""The one place where a frame, a prediction and a model card become the message that a clinician sees."""

import re

from pydantic import ValidationError

from broker_config.messages import (
    CLASSES,
    Diagnosis,
    Finer,
    Frame,
    ModelIdentity,
    Rejection,
    Timings,
    now,
)
from cloud_worker.errors import FrameRejected, ModelUnusable
from cloud_worker.job import Job
from model_zoo.package import ModelPackage
from model_zoo.predictor import Prediction

UNKNOWN_DEVICE = "unknown"
"""Site and device of a dead letter that came on no device's topic."""

_FLAG = re.compile(r"[a-z0-9_]{1,40}")
_MAX_FLAGS = 8
_MAX_REASON = 2000


def identity_of(package: ModelPackage, *, engine: str) -> ModelIdentity:
    """Return how a package introduces itself in every diagnosis.

    Args:
        package: A verified package.
        engine: Runtime and precision, such as ``openvino-bf16``.

    Raises:
        ModelUnusable: If its classes are not those of the contract, in the contract's order.
    """
    if tuple(package.labels) != CLASSES:
        raise ModelUnusable(
            f"the model package {package.name} knows the classes {', '.join(package.labels)}, and the contract has "
            f"{', '.join(CLASSES)} in this order: train or package a model with these classes"
        )
    return ModelIdentity(
        name=package.name,
        version=package.version,
        weights_sha256=package.weights_sha256,
        architecture=package.card.architecture,
        engine=engine,
        training_data=package.card.training_data.statement[:_MAX_REASON],
        simulated=package.card.simulated,
    )


def quality_reasons(frame: Frame, *, ignored: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return why the frame's own quality asks for a person: one sentence a flag of the edge's gate.

    Args:
        frame: The frame.
        ignored: Flags that do not count.
    """
    quality = frame.quality
    flags = [
        flag if _FLAG.fullmatch(flag) else "unreadable_flag" for flag in quality.flags if flag not in ignored
    ]
    reasons: list[str] = []
    for flag in list(dict.fromkeys(flags))[:_MAX_FLAGS]:
        detail = ""
        if "focus" in flag:
            detail = f" (focus {quality.focus:.1f}, limit {quality.focus_threshold:.1f})"
        reasons.append(f"quality: the microscope noticed {flag.replace('_', ' ')} in this frame{detail}.")
    return tuple(reasons)


def assemble(
    job: Job,
    prediction: Prediction,
    *,
    model: ModelIdentity,
    worker: str,
    ignored_flags: frozenset[str] = frozenset(),
    more: tuple[str, ...] = (),
) -> Diagnosis:
    """Return the diagnosis of one frame: preliminary, until a clinician has signed.

    Args:
        job: A decoded job.
        prediction: The model's answer.
        model: Which model spoke.
        worker: This worker's name.
        ignored_flags: Quality flags that do not refer.
        more: Reasons to refer that lie neither in the frame nor in the answer; they come first.

    Raises:
        FrameRejected: If the answer is not a diagnosis, such as a probability that is not a number.
    """
    frame = job.frame
    if frame is None:
        raise FrameRejected("a prediction for a frame that was never decoded", code="worker_fault")
    reasons = (*more, *prediction.reasons, *quality_reasons(frame, ignored=ignored_flags))
    try:
        return Diagnosis(
            frame_id=frame.frame_id,
            case=frame.case,
            site=frame.site,
            device=frame.device,
            priority=frame.priority,
            captured_at=frame.captured_at,
            diagnosed_at=now(),
            worker=worker,
            model=model,
            probabilities=dict(zip(CLASSES, prediction.probabilities, strict=True)),
            prediction=prediction.prediction,
            prediction_set=prediction.prediction_set,
            decision="refer" if reasons else prediction.decision,
            reasons=reasons,
            quality=frame.quality,
            ood_score=prediction.ood_score,
            ood_threshold=prediction.ood_threshold,
            activation=prediction.activation,
            activation_absent=prediction.activation_absent[:_MAX_REASON],
            finer=_finer(prediction),
            timings=Timings(
                capture_ms=frame.capture_ms,
                queue_ms=job.queue_ms,
                decode_ms=job.decode_ms,
                inference_ms=job.inference_ms,
            ),
            image_sha256=frame.image_sha256,
            frame_simulated=frame.simulated,
        )
    except (ValidationError, ValueError, TypeError) as error:
        detail = (
            error.errors(include_url=False, include_input=False)[0]
            if isinstance(error, ValidationError)
            else None
        )
        where = f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}" if detail else str(error)
        raise FrameRejected(
            f"the model's answer is not a diagnosis ({where}): verify the model package, or serve another",
            code="invalid_prediction",
        ) from None


def _finer(prediction: Prediction) -> Finer | None:
    """What the model says of the predicted disease's subtypes, where it knows any."""
    found = prediction.finer
    if found is None:
        return None
    return Finer(
        label=found.label,
        name=found.name,
        level=found.level,
        system=found.system,
        probabilities={path: min(1.0, max(0.0, p)) for path, p in found.probabilities.items()},
        alert=found.alert,
        alert_threshold=found.alert_threshold,
    )


def reject(job: Job, error: FrameRejected, *, worker: str, payload_sha256: str) -> Rejection:
    """Return the dead letter of one frame. It never holds the image.

    Args:
        job: The job.
        error: Why it was given up.
        worker: This worker's name.
        payload_sha256: SHA-256 of the whole payload, in hexadecimal.
    """
    on_device = job.topic is not None and job.topic.kind == "frame"
    return Rejection(
        frame_id=job.frame_id,
        case=job.frame.case if job.frame is not None else None,
        site=job.topic.site if on_device and job.topic else UNKNOWN_DEVICE,
        device=job.topic.device if on_device and job.topic else UNKNOWN_DEVICE,
        sequence=job.sequence,
        code=error.code,
        reason=str(error)[:_MAX_REASON],
        attempts=max(1, job.attempts),
        payload_bytes=len(job.message.payload),
        payload_sha256=payload_sha256,
        by=worker,
        at=now(),
    )

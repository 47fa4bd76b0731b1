"""Everything spx raises on purpose.

SpxError
├── ParameterError   (also ValueError)  a parameter has the wrong type or is out of bounds
│   └── UnknownName  a method, format, metric, data set or parameter that is not in its table
├── ImageError       an image that cannot be read or is not uint8 (H, W, 3)
├── LabelError       a label map that breaks the contract or does not fit its image
│   └── SizeError    a label map of another size than its image, or than was asked for
├── FormatError      a file that is not what its name says, or a format that cannot hold the data
├── DataError        a data set folder that is not laid out as expected
├── WeightsError     weights that are damaged or belong to another method
├── TrainingError    a training that cannot go on: the loss is not finite
├── OutputError      an output that cannot be written
│   └── Busy         an output that another process is writing
├── NothingToDo      no input at all
├── DeviceError      a device that this machine does not have
├── OutOfMemory      (also MemoryError)  a device's memory does not suffice
└── MissingExtra     an optional package that is not installed

The command line prints the message of an SpxError in one line and nothing else; any other exception is a bug of ours.
`exit_code` is what the command then returns: 1 for bad data, 2 for wrong usage, 3 where there was nothing to do.
"""


class SpxError(Exception):
    """Root of all errors spx raises on purpose."""

    exit_code = 1


class ParameterError(SpxError, ValueError):
    """A parameter has the wrong type or is out of bounds."""

    exit_code = 2


class UnknownName(ParameterError):
    """A name that is not in its table; the message offers the nearest one."""


class ImageError(SpxError, ValueError):
    """An image that cannot be read, or an array that is not uint8 (H, W, 3)."""


class LabelError(SpxError, ValueError):
    """A label map that breaks the contract, or that does not fit its image."""


class SizeError(LabelError):
    """A label map of another size than its image, or than was asked for."""


class FormatError(SpxError, ValueError):
    """A file that is not what its name says, or a format that cannot hold the data."""


class DataError(SpxError):
    """A data set folder that is not laid out as expected."""


class WeightsError(SpxError):
    """Weights that are damaged, or that belong to another method."""


class TrainingError(SpxError):
    """A training that cannot go on, because the loss is not finite."""


class OutputError(SpxError):
    """An output that cannot be written."""


class Busy(OutputError):
    """An output that another process is writing."""


class NothingToDo(SpxError):
    """No input at all."""

    exit_code = 3


class DeviceError(SpxError):
    """A device that this machine does not have."""

    exit_code = 2


class OutOfMemory(SpxError, MemoryError):
    """The memory of a device does not suffice; the message says what helps."""


class MissingExtra(SpxError, ImportError):
    """An optional package that is not installed; the message says how to get it."""

    exit_code = 2


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is an interrupt: one that comes as compiled code returns is by then a SystemError's cause."""
    cause: BaseException | None = error
    while isinstance(cause, SystemError):
        cause = cause.__cause__
    return isinstance(cause, KeyboardInterrupt)

"""What a bundle's manifest.json says: checked field by field, before any other file is read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from shortlist.bundle.fields import MOST_PLACES, Fields, is_plain_name, problem
from shortlist.bundle.records import (
    Ancestor,
    CompressionRecord,
    FeatureRecord,
    FileRecord,
    Lineage,
    PrivacyRecord,
    RerankerRecord,
)
from shortlist.bundle.storages import STORAGES
from shortlist.errors import BundleError

FORMAT = "shortlist-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
REQUIRED_FILES = ("user_encoder.onnx", "item_encoder.onnx", "items.index", "items.arrow")
METRICS = ("cosine", "dot", "euclidean")
# Vocabularies of user features live here; 64 MiB is millions of values.
MAX_MANIFEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Manifest(Mapping[str, Any]):
    """A checked manifest.json; every field the engine relies on has the right type and range.

    As a mapping it is the JSON object that was read: `manifest["n_items"]`.
    """

    metric: str
    storage: str
    recall: float | None  # of an approximate index
    dim: int
    n_items: int
    n_users: int
    max_history: int
    item_id_dtype: str  # "int64" or "string"
    user_id_dtype: str  # the same, chosen apart
    created: str
    # Objects that export and training fill; nobody checks what is inside.
    versions: Mapping[str, Any]
    metrics: Mapping[str, Any]
    parity: Mapping[str, Any]
    training: Mapping[str, Any]
    lineage: Lineage | None  # None: written before there were versions
    second_stage: RerankerRecord | None  # None: trained without one
    privacy: PrivacyRecord | None  # None: trained without differential privacy
    compression: CompressionRecord | None  # None: as it was exported
    features: tuple[FeatureRecord, ...]
    event_features: Mapping[str, Mapping[str, Any]]  # options, by column of events
    files: Mapping[str, FileRecord]
    _raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, where: str = MANIFEST) -> Self:
        """Read and check the content of a manifest.json, which messages call `where`.

        Raises
        ------
        BundleError
            Not JSON, another format or version, a field missing or wrong, or a listed file name
            that is not a plain name.
        """
        raw = _read_json(data, where)
        fields = Fields(raw, where)
        # The first field that is wrong is named, in this order.
        return cls(
            metric=fields.choice("metric", "a metric", METRICS),
            storage=fields.choice("storage", "a storage", STORAGES),
            recall=_read_recall(fields),
            dim=fields.number("dim", 1),
            n_items=fields.number("n_items", 1),
            n_users=fields.number("n_users", 0),
            max_history=fields.number("max_history", 1, MOST_PLACES),
            item_id_dtype=_read_id_dtype(fields, "item_id_dtype"),
            user_id_dtype=_read_id_dtype(fields, "user_id_dtype"),
            created=fields.take("created", str, "a time"),
            versions=fields.take("versions", dict, "an object"),
            metrics=fields.take("metrics", dict, "an object"),
            parity=fields.take("parity", dict, "an object"),
            training=fields.take("training", dict, "an object"),
            lineage=fields.section("lineage", Lineage.read),
            second_stage=fields.section("second_stage", RerankerRecord.read),
            privacy=fields.section("privacy", PrivacyRecord.read),
            compression=fields.section("compression", CompressionRecord.read),
            features=_read_features(fields),
            event_features=_read_event_features(fields),
            files=_read_files(fields),
            _raw=raw,
        )

    @property
    def own(self) -> Ancestor:
        """What the lineage tells of the bundle itself; without one it is named by its time."""
        if self.lineage is not None:
            return self.lineage.own
        digits = "".join(letter for letter in self.created[:19] if letter.isalnum())
        version = f"{digits}-unnamed"
        record = {"version": version, "parent": None, "created": self.created}
        return Ancestor(version, self.created, None, None, record)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.own.version

    @property
    def ancestors(self) -> tuple[Ancestor, ...]:
        """The versions before it, the newest first."""
        return () if self.lineage is None else self.lineage.ancestors

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def features_of(self, side: str) -> list[FeatureRecord]:
        """Return the features of "user" or "item"."""
        return [feature for feature in self.features if feature.side == side]

    def training_section(self, *path: str) -> Mapping[str, Any]:
        """Return a section of `training`; empty if there is none."""
        section: object = self.training
        for name in path:
            section = section.get(name) if isinstance(section, Mapping) else None
        return section if isinstance(section, Mapping) else {}

    def __getitem__(self, key: str) -> Any:
        """Return a field of the JSON object."""
        return self._raw[key]

    def __iter__(self) -> Iterator[str]:
        """Go through the names of the JSON object's fields."""
        return iter(self._raw)

    def __len__(self) -> int:
        """Return how many fields the JSON object has."""
        return len(self._raw)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object it was read from."""
        return dict(self._raw)


def _read_json(data: bytes, where: str) -> Mapping[str, Any]:
    """Read the object, and refuse that of another format or version."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise problem(where, f"at most {MAX_MANIFEST_BYTES:,} bytes", f"{len(data):,} bytes")
    try:
        raw = json.loads(
            data.decode("utf-8"), object_pairs_hook=_each_once, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise problem(where, "a JSON object in UTF-8", f"something else ({error})") from error
    if not isinstance(raw, dict):
        raise problem(where, "a JSON object", f"a JSON {type(raw).__name__}")
    if raw.get("format") != FORMAT:
        raise problem(where, f"format {FORMAT!r}", repr(raw.get("format")))
    version = raw.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: expected format_version {FORMAT_VERSION}, found {version!r}; "
            "read it with the release that wrote it, or export the run again with this one"
        )
    return raw


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse an object with a name twice: readers differ on which of the two counts."""
    record: dict[str, object] = {}
    for name, value in pairs:
        if name in record:
            raise ValueError(f"the name {name!r:.80} twice in one object")
        record[name] = value
    return record


def _no_number(text: str) -> object:
    raise ValueError(f"{text}, which is no number in JSON")


def _read_recall(fields: Fields) -> float | None:
    if "recall" not in fields.record:
        return None
    recall = fields.real("recall", 1.0)
    if not 0 <= recall <= 1:
        raise fields.problem("recall from 0 to 1", recall)
    return recall


def _read_id_dtype(fields: Fields, key: str) -> str:
    return fields.choice(key, "an id type", ("int64", "string"), "int64 or string")


def _read_features(fields: Fields) -> tuple[FeatureRecord, ...]:
    features: dict[tuple[str, str], FeatureRecord] = {}
    for entry in fields.take("features", list, "a list"):
        feature = FeatureRecord.read(fields.of(entry, "every feature to be an object"))
        key = feature.side, feature.name
        if feature.side not in ("user", "item") or key in features:
            name = f"{feature.side} {feature.name!r}"
            raise fields.problem("each feature once, side user or item", name)
        features[key] = feature
    return tuple(features.values())


def _read_event_features(fields: Fields) -> dict[str, Mapping[str, Any]]:
    events = fields.record.get("event_features", {})
    if not isinstance(events, dict) or set(events) - {"history_kinds", "history_ages"}:
        expected = "event_features to hold history_kinds and history_ages, or none"
        raise fields.problem(expected, f"{events!r:.80}")
    for name, record in events.items():
        options = fields.of(record, f"options of {name}")
        options.real("gap", 0.0, 0.0, of=f" of {name}")
    return events


def _read_files(fields: Fields) -> dict[str, FileRecord]:
    files = {}
    for name, record in fields.take("files", dict, "an object").items():
        if not is_plain_name(name) or name == MANIFEST:
            raise fields.problem("plain file names in 'files', without folders", repr(name)[:200])
        files[name] = FileRecord.read(fields.of(record, f"size and sha256 for {name}"), name)
    for name in REQUIRED_FILES:
        if name not in files:
            present = ", ".join(sorted(files)) or "no file at all"
            raise fields.problem(f"{name} in 'files'", present)
    return files

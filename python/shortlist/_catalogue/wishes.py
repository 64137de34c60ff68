"""What a call wants of its lists, with the columns and masks of one state of the items."""

from shortlist._catalogue.items import ItemTable
from shortlist._columns.reading import Array
from shortlist._columns.variety import CoreVariety, Wanted
from shortlist.errors import DataError


def variety_of(wanted: Wanted | None, items: ItemTable) -> CoreVariety | None:
    """Return what requests want, with the columns and masks of one state of the items.

    Raises
    ------
    DataError
        A column is unknown, or no column to cap lists by; or a quota is no condition.
    """
    if wanted is None:
        return None
    columns = [items.groups(name).column for name in wanted.at_most.names]
    quotas = [_quota(name, items) for name in wanted.at_least.names]
    calibration = None
    if wanted.targets is not None:
        groups = items.groups(wanted.targets.column, "calibrate")
        calibration = wanted.targets.for_core(groups.column, groups.codes_of)
    terms = None if wanted.dampening is None else items.popularity_terms()
    return wanted.for_core(columns, quotas, calibration, terms)


def _quota(name: str, items: ItemTable) -> Array:
    """Return the mask of a quota: a column of true and false, or a condition as of `where`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = items.stored.schema
    if name not in schema.names:
        try:
            return items.mask(name)
        except DataError as error:
            raise DataError(f"at_least[{name!r}]: {error}") from error
    kind = schema.field(name).type
    if not pa.types.is_boolean(kind):
        raise DataError(
            f"at_least: column {name!r} is {kind}, expected a column of true and false, or a "
            f"condition such as {name + ' = 1'!r}"
        )
    return items.mask(pc.field(name))

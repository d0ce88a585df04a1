"""Which source an address names: the formats are asked in turn.

A source lists its rows once, in a steady order, and reads any range of them. Images stay as they are stored;
local parquet is read in place, so that no second copy of the originals is left in a cache.
"""

from collections.abc import Callable, Sequence

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checks
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.sources.addresses import local_path
from u2s_datasets.sources.base import Source, SourceRequest
from u2s_datasets.sources.dataset import open_hub_dataset, open_saved_dataset
from u2s_datasets.sources.folder import open_folder
from u2s_datasets.sources.parquet import open_parquet
from u2s_datasets.sources.remote import open_remote_parquet
from u2s_datasets.sources.tar import open_tar

FORMATS: tuple[Callable[[SourceRequest], Source | None], ...] = (
    open_remote_parquet,
    open_saved_dataset,
    open_tar,
    open_parquet,
    open_folder,
    open_hub_dataset,
)
"""Asked in this order: the first that recognizes what lies there opens it, the others answer None.

Saved datasets, tar shards and parquet lie in folders too, so they come before the folder of images; the Hub comes
last, so that it is never asked for what is here.
"""


def open_source(
    src: str,
    *,
    split: str | None = None,
    image_column: str | None = None,
    keep: Sequence[str] = (),
    allow: Sequence[str] = (),
    holds_name: Callable[[str], bool] | None = None,
) -> Source:
    """The source that `src` names.

    Args:
        src: a folder, a parquet file or folder of them, WebDataset shards (a .tar or a folder of them), a saved
            dataset, a Hub dataset id "ORG/NAME", or parquet on an object store ("s3://bucket/folder") or read from the
            Hub in place ("hf://datasets/ORG/NAME/folder").
        split: the split of a dataset that has several; of parquet files, those whose name begins with it.
        image_column: the image column of a dataset; None to find it by its type, if there is only one.
        keep: columns to carry along; for a folder "label" is the class folder, others come from metadata.csv or
            metadata.jsonl. All class names of such a column are published, also of classes without a public row.
        allow: kept columns that may pass although they look identifying.
        holds_name: what a recognizer of names says of a text, if one will read the kept texts.

    Raises:
        SetupError: no such source, split or column, a source without rows or images, or a kept column that may not be
            published.
    """
    path = local_path(src)
    address = str(path) if path is not None and "://" in src else src
    request = SourceRequest(address, path, split, image_column, checks.check_names("keep", keep))
    allow = checks.check_names("allow", allow)
    source = next((source for recognize in FORMATS if (source := recognize(request)) is not None), None)
    if source is None:
        if request.files:
            raise SetupError(
                f"{address!r} is a file; give a folder of images, parquet, tar shards, a saved dataset or a Hub id"
            )
        raise SetupError(f"no file or folder {address!r}; a dataset on the Hub is written ORG/NAME")
    if not len(source):
        raise SetupError(f"{source.location!r} holds no row; give a source with images")
    source.check_images()
    check_kept(source.kept, source.kept_values, allow, holds_name is not None, holds_name)
    return source

"""Where plugin folders that were copied before this release find `review.fiftyone_app`. Goes with the next one."""

from u2s_datasets.review.fiftyone_app import __path__ as __path__

"""What the operators share: forms from the library's fields, targets, progress."""

from __future__ import annotations

import getpass

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators import types

from u2s_datasets.errors import U2SError
from u2s_datasets.review.fiftyone_app import forms, samples
from u2s_datasets.review.fiftyone_app.actions import lent_secrets

SECRETS = ("HF_TOKEN", "OPENAI_API_KEY")
STORE = "u2s_privacy"


def add_fields(inputs, fields):
    """Show the library's fields of a form."""
    for field in fields:
        about = {"label": field.label, "description": field.help, "required": field.required}
        if field.kind == "choice":
            inputs.enum(field.name, field.choices, default=field.default, view=types.Dropdown(), **about)
        elif field.kind == "choices":
            view = types.Dropdown(multiple=True)
            for choice in field.choices:
                view.add_choice(choice, label=choice)
            inputs.list(field.name, types.String(), default=field.default, view=view, **about)
        else:
            getattr(inputs, field.kind)(field.name, default=field.default, **about)


def add_reviewer(inputs):
    """Who decides."""
    inputs.str("reviewer", default=getpass.getuser(), label="reviewer")


def add_boxes(inputs, dataset):
    """Which of the user's own detections to hide as well."""
    names = list(dataset.get_field_schema(embedded_doc_type=fo.Detections))
    if names:
        view = types.Dropdown()
        inputs.enum("boxes_field", ["", *names], default="", view=view, label="boxes to hide as well")


def target_rows(ctx):
    """The rows of the chosen dataset, view or selection."""
    return samples.row_ids(ctx.target_view())


def values_of(ctx, fields):
    """What was filled in."""
    return {field.name: ctx.params[field.name] for field in fields if field.name in ctx.params}


class Work(foo.Operator):
    """An operator that can take long: immediate or delegated, with progress, repeatable."""

    name_, label, about = "", "", ""

    @property
    def config(self):
        return foo.OperatorConfig(
            name=self.name_,
            label=f"Privacy: {self.label}",
            description=self.about,
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
        )

    def resolve_execution_options(self, ctx):
        heavy = forms.is_heavy(ctx.params.get("profile", "cpu"), ctx.params)
        return foo.ExecutionOptions(
            allow_immediate_execution=True, allow_delegated_execution=True, default_choice_to_delegated=heavy
        )

    def work(self, ctx):
        """Yields (done, all)."""
        raise NotImplementedError

    def execute(self, ctx):
        try:
            with lent_secrets({name: ctx.secret(name) for name in SECRETS}):
                for done, of in self.work(ctx):
                    yield self.progress(ctx, done, of)
        except U2SError as error:
            yield ctx.ops.notify(f"{self.label}: {error}", variant="error")
            raise
        yield ctx.ops.reload_dataset()

    def progress(self, ctx, done, of):
        if ctx.delegated:
            ctx.set_progress(done / max(of, 1), label=f"{done} of {of}")
        return ctx.ops.set_progress(progress=done / max(of, 1), label=f"{self.label}: {done} of {of}")

    def __call__(self, target, delegate=False, **params):
        """Run it from Python.

        Args:
            target: a dataset or view.
            delegate: whether to queue it instead.
            params: what the form asks for.
        """
        return foo.execute_operator(self.uri, {"view": target.view()}, params=params, request_delegation=delegate)

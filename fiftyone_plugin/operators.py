"""The operators: the library's steps, reviews, audits and publishing, each with a form."""

from __future__ import annotations

import getpass

import fiftyone.operators as foo
from fiftyone.operators import types

import u2s_datasets
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.review import audit
from u2s_datasets.review.fiftyone_app import actions, forms, panel_data, samples, steps
from u2s_datasets.runs.decisions import APPROVE, PENDING, REEDIT, REJECT

from .common import STORE, Work, add_boxes, add_fields, add_reviewer, target_rows, values_of


class StepOperator(Work):
    """One of the library's steps."""

    def resolve_input(self, ctx):
        inputs = types.Object()
        ctx.target_view()
        inputs.enum("profile", forms.profiles(), default="cpu", label="profile")
        if self.name_ == "anonymize":
            add_boxes(inputs, ctx.dataset)
            if not samples.info_of(ctx.dataset):
                inputs.str("media", required=True, label="folder for the anonymized images")
        inputs.bool("only_missing", default=False, label="only samples that it has not worked on")
        add_fields(inputs, forms.fields_of(self.name_, ctx.params.get("profile", "cpu"), ctx.params))
        return types.Property(inputs, view=types.View(label=f"Privacy: {self.label}", description=self.about))

    def work(self, ctx):
        profile = ctx.params.get("profile", "cpu")
        values = values_of(ctx, forms.fields_of(self.name_, profile, ctx.params))
        options = {name: ctx.params.get(name) or None for name in ("media", "boxes_field")}
        yield from steps.run_step(
            ctx.target_view(),
            forms.build(self.name_, profile, values),
            only_missing=ctx.params.get("only_missing", False),
            **options,
        )


class Inspect(StepOperator):
    name_, label, about = "inspect", "inspect", "Find what is private and flag it"


class Caption(StepOperator):
    name_, label, about = "caption", "caption", "Describe each image, in private and in public"


class Instruct(StepOperator):
    name_, label, about = "instruct", "instruct", "Write what is to be changed"


class Anonymize(StepOperator):
    name_, label, about = "anonymize", "anonymize", "Edit what is flagged, prove it, withhold what cannot be proven"


class Score(StepOperator):
    name_, label, about = "score", "score", "Measure what was made"


class Review(Work):
    name_, label, about = "review", "review", "Approve, reject, ask for a review, or edit again"

    ACTIONS = (APPROVE, REJECT, "ask for a review", REEDIT)

    def resolve_input(self, ctx):
        inputs = types.Object()
        ctx.target_view()
        if panel_data.is_ready(ctx.dataset) and (many := len(target_rows(ctx))) > 1:
            inputs.view("many", types.Warning(label=f"This decides about {many} rows, those chosen above"))
        inputs.enum("action", self.ACTIONS, required=True, view=types.RadioGroup(), label="decision")
        add_reviewer(inputs)
        if ctx.params.get("action") == REEDIT:
            self.add_steps(inputs, ctx)
        return types.Property(inputs, view=types.View(label="Privacy: review", description=self.about))

    def add_steps(self, inputs, ctx):
        """How to edit again: by default as the run did."""
        try:
            inputs.bool("sent_back", default=False, label="all rows that were sent back, instead of those chosen above")
            add_boxes(inputs, ctx.dataset)
            inputs.enum("profile", forms.profiles(), default=actions.own_profile(ctx.dataset), label="profile")
            chosen = actions.steps_of(ctx.dataset, ctx.params.get("profile"))
            add_fields(inputs, forms.fields_of("anonymize", chosen, ctx.params))
        except U2SError as error:
            blocked = inputs.view("blocked", types.Error(label="Not to be edited so", description=str(error)))
            blocked.invalid, blocked.error_message = True, str(error)

    def work(self, ctx):
        action, by = ctx.params.get("action"), ctx.params.get("reviewer") or getpass.getuser()
        if action not in self.ACTIONS:
            raise SetupError(f"unknown action {action!r}; expected one of: {', '.join(self.ACTIONS)}")
        if action != REEDIT:
            rows = target_rows(ctx)
            word = PENDING if action == "ask for a review" else action
            actions.decide(ctx.dataset, rows, word, by)
            yield len(rows), len(rows)
            return
        rows = actions.sent_back(ctx.dataset) if ctx.params.get("sent_back") else target_rows(ctx)
        steps_ = actions.steps_of(ctx.dataset, ctx.params.get("profile"))
        chosen = forms.build_profile(steps_, values_of(ctx, forms.fields_of("anonymize", steps_, ctx.params)))
        yield from actions.edit_again(ctx.dataset, rows, by, chosen, ctx.params.get("boxes_field") or None)


class Audit(foo.Operator):
    @property
    def config(self):
        return foo.OperatorConfig(
            name="audit",
            label="Privacy: audit",
            description="Look at a random sample and learn how many of the published images may leak at most",
            dynamic=True,
            view_target=False,
        )

    def resolve_input(self, ctx):
        inputs = types.Object()
        inputs.enum("action", ("draw", "finish", "drop"), default="draw", view=types.RadioGroup(), label="audit")
        add_reviewer(inputs)
        if ctx.params.get("action", "draw") == "draw":
            inputs.int("n", default=100, min=1, label="images to look at")
            inputs.int("seed", default=0, label="seed of the draw")
        elif ctx.params["action"] == "finish":
            inputs.float("confidence", default=0.95, label="confidence of the bound")
        return types.Property(inputs, view=types.View(label="Privacy: audit"))

    def execute(self, ctx):
        action, by = ctx.params.get("action", "draw"), ctx.params.get("reviewer") or getpass.getuser()
        if action == "draw":
            rows = actions.draw_audit(ctx.dataset, ctx.params.get("n", 100), ctx.params.get("seed", 0), by)
            ctx.ops.set_view(name="audit")
            return {"drawn": len(rows)}
        if action == "finish":
            return actions.finish_audit(ctx.dataset, by, ctx.params.get("confidence", 0.95))
        audit.drop(actions.folder_of(ctx.dataset))
        return {}

    def resolve_output(self, ctx):
        outputs = types.Object()
        for name in ctx.results or {}:
            outputs.str(name, label=name.replace("_", " "))
        return types.Property(outputs, view=types.View(label="Audit"))

    def __call__(self, dataset, action="draw", **params):
        """Run it from Python: action "draw" (n, seed, reviewer), "finish" (confidence, reviewer) or "drop"."""
        result = foo.execute_operator(self.uri, {"dataset": dataset}, params={"action": action, **params})
        return result.result


class Publish(foo.Operator):
    @property
    def config(self):
        return foo.OperatorConfig(
            name="publish",
            label="Privacy: publish",
            description="Publish the safe and anonymized rows through u2s.push_to_hub",
            dynamic=True,
            allow_delegated_execution=True,
            view_target=False,
        )

    def resolve_input(self, ctx):
        inputs = types.Object()
        if reasons := actions.why_not_publish(ctx.dataset):
            described = "; ".join(reasons)
            blocked = inputs.view("blocked", types.Error(label="Not to be published yet", description=described))
            blocked.invalid, blocked.error_message = True, described
            return types.Property(inputs, view=types.View(label="Privacy: publish"))
        inputs.str("repo_id", required=True, label="repository", description="ORG/NAME on the Hub")
        add_fields(inputs, forms.call_fields(u2s_datasets.push_to_hub))
        return types.Property(inputs, view=types.View(label="Privacy: publish"))

    def execute(self, ctx):
        options = values_of(ctx, forms.call_fields(u2s_datasets.push_to_hub))
        options["token"] = ctx.secret("HF_TOKEN")
        done = actions.publish(ctx.dataset, ctx.params.get("repo_id", ""), **options)
        return {"published": str(done)}

    def resolve_output(self, ctx):
        outputs = types.Object()
        outputs.str("published", label="published")
        return types.Property(outputs, view=types.View(label="Published"))

    def __call__(self, dataset, repo_id, **options):
        """Run it from Python; options as in `u2s.push_to_hub`."""
        params = {"repo_id": repo_id, **options}
        return foo.execute_operator(self.uri, {"dataset": dataset}, params=params).result


class OpenComparison(foo.Operator):
    @property
    def config(self):
        return foo.OperatorConfig(
            name="open_comparison",
            label="Privacy: open comparison",
            description="The original beside the safe version, in the panel Privacy review",
        )

    def resolve_placement(self, ctx):
        button = types.Button(label="Privacy review", icon="compare", prompt=False)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)

    def execute(self, ctx):
        chosen = ctx.dataset.select_group_slices().select(ctx.selected) if ctx.selected else None
        row = samples.row_ids(chosen)[0] if chosen is not None else None
        ctx.store(STORE).set("row", row)
        ctx.ops.open_panel("privacy_review", layout="horizontal", is_active=True)
        return {"row": row}

    def __call__(self, dataset, selected=()):
        """Run it from Python, on selected sample ids."""
        return foo.execute_operator(self.uri, {"dataset": dataset, "selected": list(selected)}).result


OPERATORS = (Inspect, Caption, Instruct, Anonymize, Score, Review, Audit, Publish, OpenComparison)

"""Operators and the panel "Privacy review". Forms, work and rules are the library's; here they get a face."""

from __future__ import annotations

import getpass

import fiftyone.operators as foo
from fiftyone.operators import types

from u2s_datasets.app import actions, forms, panel_data, samples, steps
from u2s_datasets.app.secrets import lent
from u2s_datasets.errors import U2SError
from u2s_datasets.review import audit, decisions

PLUGIN = "@u2s/privacy"
SECRETS = ("HF_TOKEN", "OPENAI_API_KEY")
STORE = "u2s_privacy"
HALF = {
    "image": {"style": {"width": "100%", "maxHeight": "340px", "objectFit": "contain"}},
}
"""Two images side by side, whole."""


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
    import fiftyone as fo

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
            with lent({name: ctx.secret(name) for name in SECRETS}):
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


class StepOperator(Work):
    """One of the library's arrows."""

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

    ACTIONS = (decisions.APPROVE, decisions.REJECT, "ask for a review", decisions.REEDIT)

    def resolve_input(self, ctx):
        inputs = types.Object()
        ctx.target_view()
        inputs.enum("action", self.ACTIONS, default=decisions.APPROVE, view=types.RadioGroup(), label="decision")
        add_reviewer(inputs)
        if ctx.params.get("action") == decisions.REEDIT:
            inputs.bool("sent_back", default=False, label="all rows that were sent back, instead of those chosen above")
            add_boxes(inputs, ctx.dataset)
            inputs.enum("profile", forms.profiles(), default="cpu", label="profile")
            add_fields(inputs, forms.fields_of("anonymize", ctx.params.get("profile", "cpu"), ctx.params))
        return types.Property(inputs, view=types.View(label="Privacy: review", description=self.about))

    def work(self, ctx):
        action, by = ctx.params.get("action", decisions.APPROVE), ctx.params.get("reviewer") or getpass.getuser()
        if action != decisions.REEDIT:
            rows = target_rows(ctx)
            word = decisions.PENDING if action == "ask for a review" else action
            actions.decide(ctx.dataset, rows, word, by)
            yield len(rows), len(rows)
            return
        rows = actions.sent_back(ctx.dataset) if ctx.params.get("sent_back") else target_rows(ctx)
        profile = ctx.params.get("profile", "cpu")
        values = values_of(ctx, forms.fields_of("anonymize", profile, ctx.params))
        chosen = forms.build_profile(profile, values)
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
            words = "; ".join(reasons)
            blocked = inputs.view("blocked", types.Error(label="Not to be published yet", description=words))
            blocked.invalid, blocked.error_message = True, words
            return types.Property(inputs, view=types.View(label="Privacy: publish"))
        inputs.str("repo_id", required=True, label="repository", description="ORG/NAME on the Hub")
        add_fields(inputs, forms.call_fields(actions.pusher()))
        return types.Property(inputs, view=types.View(label="Privacy: publish"))

    def execute(self, ctx):
        options = values_of(ctx, forms.call_fields(actions.pusher()))
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


class PrivacyReview(foo.Panel):
    """Counts, distributions, the queue by residual risk, and one pair with keys."""

    @property
    def config(self):
        return foo.PanelConfig(
            name="privacy_review", label="Privacy review", icon="privacy_tip", surfaces="grid", allow_multiple=False
        )

    def on_load(self, ctx):
        stored = ctx.store(STORE).get("row")
        ctx.store(STORE).set("row", None)
        self.show(ctx, stored)

    def on_change_dataset(self, ctx):
        self.show(ctx, None)

    def show(self, ctx, row):
        """Show this row, or the first of the queue, and the numbers as they are now."""
        ctx.panel.set_state("failure", "")
        if not samples.info_of(ctx.dataset):
            ctx.panel.set_state("pair", None)
            return
        queue = panel_data.queue(ctx.dataset)
        row = row or (queue[0] if queue else None)
        ctx.panel.set_state("waiting", len(queue))
        ctx.panel.set_state("pair", panel_data.pair(ctx.dataset, row) if row else None)
        counts = panel_data.counts(ctx.dataset) | {"progress": panel_data.progress(ctx.dataset)}
        bars = [[b.name, b.goal, b.middles, b.counts, b.edges] for b in panel_data.histograms(ctx.dataset)]
        ctx.panel.set_state("counts", counts)
        ctx.panel.set_state("bars", bars)

    def decide(self, ctx, word):
        """Write the decision about the shown pair, then show the next."""
        pair = ctx.panel.get_state("pair")
        by = ctx.panel.get_state("reviewer") or getpass.getuser()
        if not pair:
            return
        try:
            if not actions.decide(ctx.dataset, [pair["row"]], word, by):
                ctx.ops.notify("a withheld row has nothing to decide about; edit it again", variant="warning")
            self.show(ctx, None)
        except U2SError as error:
            ctx.panel.set_state("failure", str(error))
            ctx.ops.notify(str(error), variant="error")
        ctx.ops.reload_samples()

    def approve(self, ctx):
        self.decide(ctx, decisions.APPROVE)

    def reject(self, ctx):
        self.decide(ctx, decisions.REJECT)

    def send_back(self, ctx):
        self.decide(ctx, decisions.REEDIT)

    def next(self, ctx):
        queue, pair = panel_data.queue(ctx.dataset), ctx.panel.get_state("pair")
        place = queue.index(pair["row"]) + 1 if pair and pair["row"] in queue else 0
        self.show(ctx, queue[place % len(queue)] if queue else None)

    def find(self, ctx):
        pair = ctx.panel.get_state("pair")
        if pair:
            ctx.ops.set_view(panel_data.pair_view(ctx.dataset, pair["row"]))

    def everything(self, ctx):
        ctx.ops.clear_view()

    def refresh(self, ctx):
        pair = ctx.panel.get_state("pair")
        self.show(ctx, pair["row"] if pair else None)

    def on_bar(self, ctx):
        """Show the samples behind a bar."""
        name, bar = ctx.params.get("trace"), ctx.params.get("idx")
        if name is not None and bar is not None:
            ctx.ops.set_view(panel_data.bar_view(ctx.dataset, name, int(bar)))

    def render(self, ctx):
        panel = types.Object()
        counts, pair = ctx.panel.get_state("counts"), ctx.panel.get_state("pair")
        if not counts:
            panel.md("This dataset shows no run. Import one with `u2s fiftyone DIR` or `u2s.to_fiftyone`.")
            return types.Property(panel)
        panel.md(summary(counts, ctx.panel.get_state("waiting")), name="summary")
        self.render_pair(panel, pair)
        for name, goal, middles, bars, edges in ctx.panel.get_state("bars") or ():
            width = edges[1] - edges[0]
            data = [{"type": "bar", "name": name, "x": middles, "y": bars, "width": [width * 0.9] * len(bars)}]
            title = {"text": f"{name}: {goal}", "font": {"size": 13}}
            layout = {"title": title, "height": 190, "margin": {"t": 36, "b": 28, "l": 36, "r": 8}, "bargap": 0.05}
            panel.plot(f"bars_{name}", data=data, layout=layout, on_click=self.on_bar, config={"displayModeBar": False})
        padding = {"container": {"sx": {"p": 2}}}
        return types.Property(panel, view=types.GridView(orientation="vertical", gap=1, componentsProps=padding))

    def render_pair(self, panel, pair):
        keys = panel.h_stack("keys", gap=1)
        for name, label, call in (
            ("approve", "Approve (a)", self.approve),
            ("reject", "Reject (r)", self.reject),
            ("send_back", "Re-edit (e)", self.send_back),
            ("next", "Next (n)", self.next),
        ):
            keys.btn(name, label=label, on_click=call, variant="contained", disabled=pair is None)
        if pair is None:
            panel.md("Nothing is left to look at.", name="empty")
            return
        panel.md(pair_words(pair), name="facts")
        images = panel.h_stack("images", gap=1, align_y="top")
        for name in ("original", "anonymized"):
            if pair[name]:
                shown = types.ImageView(alt=name, label=name, componentsProps=HALF)
                images.view(f"{name}_image", shown, default=pair[name])
            else:
                images.md(f"*{name}: no image*", name=f"{name}_none")
        more = panel.h_stack("more", gap=1)
        more.btn("find", label="Show in the grid", on_click=self.find)
        more.btn("everything", label="Show everything", on_click=self.everything)
        more.btn("refresh", label="Count again", on_click=self.refresh)


def summary(counts, waiting):
    """The numbers above the pair."""
    parts = [f"**{title}** " + " · ".join(f"{k} {n}" for k, n in counts.get(title, {}).items()) for title in counts]
    lines = [part for part, title in zip(parts, counts) if title != "progress" and counts[title]]
    progress = counts["progress"]
    done = progress["decisions"]
    lines.append(f"**review** {waiting} to look at · " + " · ".join(f"{k} {n}" for k, n in done.items() if n))
    if progress.get("audit"):
        lines.append(f"**audit** {progress['audit']['judged']} of {progress['audit']['n']} judged")
    if progress.get("result"):
        r = progress["result"]
        bound = f"at most {r['upper_bound']:.2%} leak at {r['confidence']:.0%} confidence"
        lines.append(f"**audit** {r['leaks']} leaks in {r['n']}: {bound}")
    return "\n\n".join(lines)


def pair_words(pair):
    """What is known of the pair."""
    risk = "–" if pair["risk"] is None else f"{pair['risk']:.2f}"
    words = f"row `{pair['row'][:8]}` · **{pair['status']}** · found before: {pair['found']} · residual risk {risk}"
    return words + (f" · decision: {pair['decision']}" if pair["decision"] else "")


def register(plugin):
    """Every operator and the panel."""
    for cls in (Inspect, Caption, Instruct, Anonymize, Score, Review, Audit, Publish, OpenComparison, PrivacyReview):
        plugin.register(cls)

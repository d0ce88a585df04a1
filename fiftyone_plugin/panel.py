"""The panel "Privacy review": what there is, what is to be looked at, and one pair with keys (see `keys.js`)."""

from __future__ import annotations

import getpass

import fiftyone.operators as foo
from fiftyone.operators import types

from u2s_datasets.errors import U2SError
from u2s_datasets.review.fiftyone_app import actions, panel_data
from u2s_datasets.runs.decisions import APPROVE, REEDIT, REJECT

from .common import STORE

HALF = {
    "image": {"style": {"width": "100%", "maxHeight": "340px", "objectFit": "contain"}},
}
"""Two images side by side, whole."""


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
        if not panel_data.is_ready(ctx.dataset):
            ctx.panel.set_state({"pair": None, "counts": None})
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
        self.decide(ctx, APPROVE)

    def reject(self, ctx):
        self.decide(ctx, REJECT)

    def send_back(self, ctx):
        self.decide(ctx, REEDIT)

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
            panel.md("Nothing here was anonymized. Import one with `u2s fiftyone DIR` or `u2s.to_fiftyone`.")
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
    lines = [part for part, title in zip(parts, counts, strict=True) if title != "progress" and counts[title]]
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

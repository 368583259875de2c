"""View: neuroglancer and the reports in a browser."""

import webbrowser

import click

from seg_core.cli.options import STORE
from seg_core.errors import SegError
from seg_core.store import Store


@click.command()
@click.argument("run", required=False)
@click.argument("volume", required=False)
@click.option("--port", default=9999, show_default=True, help="On which this machine answers.")
@click.option("--no-open", is_flag=True, help="Open no browser.")
@STORE
def view(run: str | None, volume: str | None, port: int, no_open: bool, store: str | None) -> None:
    """Show RUN on VOLUME in neuroglancer, and serve its reports; all runs unless given."""
    from seg_core.run import load_run
    from seg_core.view.links import neuroglancer_link
    from seg_core.view.server import serve, shown
    from seg_core.volumes.declared import load_volume

    if run is not None and volume is None:
        raise SegError(f"seg view {run}: expected a volume too, as in: seg view {run} VOLUME")
    opened, base = Store(store), f"http://localhost:{port}"
    pairs = [(run, volume)] if run and volume else list(shown(opened))
    links = {
        f"{r} on {v}": neuroglancer_link(load_run(opened, r), load_volume(opened, v), base)
        for r, v in pairs
    }
    server = serve(opened, port) if opened.is_local else None
    for name, link in links.items():
        click.echo(f"{name}: {link}")
    first = next(iter(links.values()), None) if run else base
    if server is not None:
        click.echo(f"everything: {base} (end with Ctrl-C)")
    if first and not no_open:
        webbrowser.open(first)
    if server is not None:
        with server:
            server.serve_forever()

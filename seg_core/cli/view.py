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
    from seg_core.view.server import serve, shown

    if run is not None and volume is None:
        raise SegError(f"seg view {run}: expected a volume too, as in: seg view {run} VOLUME")
    opened, base = Store(store), f"http://localhost:{port}"
    pairs = [(run, volume)] if run and volume else list(shown(opened))
    links = _links(opened, pairs, base, skip=run is None)
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


def _links(store: Store, pairs: list[tuple[str, str]], base: str, skip: bool) -> dict[str, str]:
    """Links to neuroglancer by name; one that there is none to is told, or raised unless `skip`."""
    from seg_core.run import load_run
    from seg_core.view.links import neuroglancer_link
    from seg_core.volumes.declared import load_volume

    links = {}
    for run, volume in pairs:
        name = f"{run} on {volume}"
        try:
            links[name] = neuroglancer_link(load_run(store, run), load_volume(store, volume), base)
        except SegError as error:
            if not skip:
                raise
            click.echo(f"{name} is left out: {error}", err=True)
    return links

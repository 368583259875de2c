"""What assets and sensors are given: the store."""

from typing import TypeAlias

import dagster as dg

from seg_core.store import Store


class StoreResource(dg.ConfigurableResource[Store]):
    """Where everything lies."""

    uri: str | None = None
    """A folder, gs:// or s3://; that of `SEG_STORE`, or else `.local/store`, unless given."""

    def create_resource(self, context: dg.InitResourceContext) -> Store:  # noqa: ARG002
        """The store, which is what assets see."""
        return Store(self.uri)


StoreParam: TypeAlias = dg.ResourceParam[Store]

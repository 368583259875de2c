"""The family of assets of one declared volume: from prediction to report.

A step by block is one dagster run over all blocks asked for, so that the model is loaded once.
The backfill policies of neighbouring steps differ on purpose: Dagster puts steps with the same
partitions and policy into one run, where a failed block of the first would stop the second.
"""

import dagster as dg
from pydantic import Field

from seg_assets.beta import unwarned
from seg_assets.blocks import make_blocks
from seg_assets.checks import PREDICTION, SEGMENTATION, Checked, result, specs, told
from seg_assets.failures import refusals
from seg_assets.kubernetes import pods
from seg_assets.metadata import picture, table
from seg_assets.partitions import RUNS, blocks_of, group_of
from seg_assets.resources import StoreParam
from seg_assets.training import OWNERS, SCORES_KEY
from seg_core.volumes.declared import Volume

ONE_RUN = dg.BackfillPolicy.single_run()
ALSO_ONE_RUN = dg.BackfillPolicy.multi_run(10**9)


class Force(dg.Config):
    """What can be set in the launchpad and in the dialog of a backfill."""

    force: bool = Field(default=False, description="Make again, once, what is done already.")

    def token(self, context: dg.AssetExecutionContext) -> str:
        """One for a dagster run and its retries: they do not make again what was made under it."""
        return (context.run.root_run_id or context.run.run_id) if self.force else ""


class Choice(Force):
    """Other parameters than the best, for this volume; they stay until others are set."""

    threshold: float | None = Field(
        default=None, description="Mean affinity above which two segments are merged, 0 to 1."
    )
    size_penalty: float | None = Field(
        default=None,
        description="Taken off it for every tenfold of the smaller segment above 1,000 voxels.",
    )
    repulsion: float | None = Field(
        default=None, description="Weight of long-range affinities below 0.5 in the mean."
    )
    min_size: float | None = Field(
        default=None, description="Segments of fewer voxels join their closest neighbour."
    )
    drop_size: float | None = Field(
        default=None, description="Segments of fewer voxels become background."
    )
    best: bool = Field(default=False, description="Forget all of these: take the best again.")

    @property
    def settings(self) -> dict[str, float]:
        """Those that were given."""
        given = self.model_dump(exclude={"force", "best"}, exclude_none=True)
        return {str(name): float(value) for name, value in given.items()}


@unwarned()
def volume_assets(volume: Volume) -> list[dg.AssetsDefinition]:
    """All assets of a volume."""
    prediction = _prediction(volume)
    fragments = _fragments(volume, prediction)
    lut = _lut(volume, fragments)
    segmentation = _segmentation(volume, fragments, lut)
    return [prediction, fragments, lut, segmentation, _report(volume, segmentation)]


def _all_blocks(asset: dg.AssetsDefinition) -> dg.AssetDep:
    """What is made by run alone hangs from all blocks of its run."""
    mapping = dg.MultiToSingleDimensionPartitionMapping("run")
    return dg.AssetDep(asset, partition_mapping=mapping)


def _prediction(volume: Volume) -> dg.AssetsDefinition:
    @dg.asset(
        key=[volume.name, "prediction"],
        group_name=group_of(volume.name),
        owners=OWNERS,
        kinds={"pytorch", "zarr"},
        partitions_def=blocks_of(volume),
        backfill_policy=ONE_RUN,
        deps=[SCORES_KEY, dg.AssetKey([volume.name, "raw"])],
        **pods.options("prediction", volume),
    )
    def prediction(
        context: dg.AssetExecutionContext, config: Force, store: StoreParam
    ) -> dg.MaterializeResult[None]:
        """Output of the run's best checkpoint, equal to that of the whole volume at once."""
        from seg_core.segment import predict_volume

        return make_blocks(context, store, volume.name, predict_volume, config.token(context))

    return prediction


def _fragments(volume: Volume, prediction: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[volume.name, "fragments"],
        group_name=group_of(volume.name),
        owners=OWNERS,
        kinds={"zarr", "parquet"},
        partitions_def=blocks_of(volume),
        backfill_policy=ALSO_ONE_RUN,
        deps=[prediction],
        **pods.options("fragments", volume),
    )
    def fragments(
        context: dg.AssetExecutionContext, config: Force, store: StoreParam
    ) -> dg.MaterializeResult[None]:
        """Labels inside a block, the edges between them, and what its neighbours must know."""
        from seg_core.segment import fragment_volume

        return make_blocks(context, store, volume.name, fragment_volume, config.token(context))

    return fragments


def _lut(volume: Volume, fragments: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[volume.name, "lut"],
        group_name=group_of(volume.name),
        owners=OWNERS,
        kinds={"numpy"},
        partitions_def=RUNS,
        deps=[_all_blocks(fragments)],
        check_specs=specs([volume.name, "lut"], PREDICTION),
        **pods.options("lut", volume),
    )
    def lut(context: dg.AssetExecutionContext, config: Choice, store: StoreParam) -> Checked:
        """Which segment every fragment belongs to, over all blocks: the look-up table.

        Refused while the fragments of a block are missing, failed or stale; it names them.
        """
        from seg_core.checks.prediction import check_prediction
        from seg_core.parameters import own_parameters, set_parameters
        from seg_core.run import load_run
        from seg_core.segment import lut_of_volume
        from seg_core.volumes.declared import load_volume

        with refusals():
            run = load_run(store, context.partition_key)
            declared = load_volume(run.store, volume.name)
            if config.best:
                set_parameters(run, declared, None)
            if config.settings:
                set_parameters(run, declared, config.settings)
            made_table, made = lut_of_volume(run, declared, force=config.token(context))
            verdicts = check_prediction(run, declared)
        return dg.MaterializeResult(
            metadata={
                **made_table.figures,
                "parameters": dg.MetadataValue.json(made_table.parameters),
                "other than the best": dg.MetadataValue.json(own_parameters(run, declared)),
                "made_now": made,
            },
            check_results=[result(verdict) for verdict in verdicts],
        )

    return lut


def _segmentation(
    volume: Volume, fragments: dg.AssetsDefinition, lut: dg.AssetsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        key=[volume.name, "segmentation"],
        group_name=group_of(volume.name),
        owners=OWNERS,
        kinds={"zarr"},
        partitions_def=blocks_of(volume),
        backfill_policy=ONE_RUN,
        deps=[fragments, lut],
        **pods.options("segmentation", volume),
    )
    def segmentation(
        context: dg.AssetExecutionContext, config: Force, store: StoreParam
    ) -> dg.MaterializeResult[None]:
        """Segment ids of every voxel: fragments through the look-up table."""
        from seg_core.segment import segment_blocks

        return make_blocks(context, store, volume.name, segment_blocks, config.token(context))

    return segmentation


def _report(volume: Volume, segmentation: dg.AssetsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[volume.name, "report"],
        group_name=group_of(volume.name),
        owners=OWNERS,
        kinds={"html"},
        partitions_def=RUNS,
        deps=[_all_blocks(segmentation)],
        check_specs=specs([volume.name, "report"], SEGMENTATION),
        **pods.options("report", volume),
    )
    def report(context: dg.AssetExecutionContext, store: StoreParam) -> Checked:
        """Scores where labels exist, statistics, checks and pictures, as one page."""
        from seg_core.checks.segmentation import check_segmentation
        from seg_core.checks.unchanged import check_unchanged
        from seg_core.report import make_report
        from seg_core.report.pictures import draw_section
        from seg_core.run import load_run
        from seg_core.states import output_of
        from seg_core.view.links import link_to, neuroglancer_link
        from seg_core.volumes.declared import load_volume

        with refusals():
            run = load_run(store, context.partition_key)
            declared = load_volume(run.store, volume.name)
            verdicts = [*check_segmentation(run, declared), check_unchanged(run)]
            with told(context, verdicts):
                content = make_report(run, declared)
        page = output_of(run, declared).path("report.html")
        rows = [{"source": name, **scores} for name, scores in content["scores"].items()]
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.url(link_to(run.store, page)),
                "neuroglancer": dg.MetadataValue.url(neuroglancer_link(run, declared)),
                "file": dg.MetadataValue.path(run.store.path(page)),
                "section": picture(draw_section(run, declared), "middle section"),
                "segments": content["segments"]["count"],
                **({"scores": table(rows)} if rows else {}),
            },
            check_results=[result(verdict) for verdict in verdicts],
        )

    return report

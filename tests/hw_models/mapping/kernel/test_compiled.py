from pathlib import Path

from hw_models.mapping.kernel import compiled
from lowbit_sim.numerics import kernel_cache


def test_what_is_kept_on_disk_is_told_apart_by_the_sources_of_all_that_it_calls():
    file = Path(compiled.__file__)
    root = file.parents[3]
    called = {
        file.with_name(f"{name}.py")
        for name in ("loops", "cost", "crossing", "elements", "reductions", "inputs")
    }
    assert called <= kernel_cache._sources(file, root)
    digest = kernel_cache.source_digest(file, root)
    folder = Path(compiled.compiled_search.stats.cache_path)  # pyright: ignore[reportFunctionMemberAccess]
    assert folder.parent.name == digest

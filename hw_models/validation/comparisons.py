"""All comparisons, by the name that `lowbit-sim validate` takes: one line each."""

from __future__ import annotations

from functools import cache

from hw_models.validation import (
    accelforge,
    ethos_u,
    eyeriss,
    gemmini,
    nvdla,
    nvdla_primer,
    nvdla_rtl,
    rapid,
    scale_sim,
    tpu,
    zigzag,
)
from hw_models.validation.table import Comparison
from lowbit_sim.numerics.suggest import unknown

COMPARISONS: dict[str, Comparison] = {
    "scale_sim": Comparison(
        title="SCALE-Sim 3.0.0: schedules of systolic arrays",
        about="541 layers of public networks, a simulator's figures against closed forms. Every figure is to agree "
        "exactly: cycles of the schedule (the tool prints one less), mapping efficiency, utilisation where it was "
        "kept, and accesses of the SRAMs by the tool's conventions, its surplus of writes with `os` included.",
        points=cache(scale_sim.points),
        summarised=True,
    ),
    "gemmini": Comparison(
        title="Gemmini: RTL",
        about="Cycles of GEMMs in a simulation of the RTL (Verilator, published with NPUsim). The start-up of 2,270 "
        "cycles is a fit to these points. 64 x 64 x 64, mostly start-up, is reported apart from the bound of 10 % "
        "on the others. The rows with exposed loading show why weights are loaded behind compute.",
        points=cache(gemmini.points),
    ),
    "nvdla": Comparison(
        title="NVDLA: performance sheet",
        about="The vendor's own estimate of AlexNet. By the sheet's conventions its rows are reproduced exactly; the "
        "cost model, beside them, has no Winograd transform and takes 64 channels at once.",
        points=cache(nvdla.points),
    ),
    "nvdla_primer": Comparison(
        title="NVDLA: frames per second of ResNet-50",
        about="The vendor's own estimates for seven sizes; what software and precision they assume is not published.",
        points=cache(nvdla_primer.points),
    ),
    "nvdla_rtl": Comparison(
        title="NVDLA nv_small: RTL",
        about="Cycles of the released convolution traces in a simulation of the RTL (Verilator, published with "
        "NPUsim). Each trace runs alone, so that two keys of the profile are set for it: the memory outside is "
        "faster, and the buffers are filled before they are used. The start-up of 166 cycles is a fit to the "
        "smallest trace.",
        points=cache(nvdla_rtl.points),
    ),
    "eyeriss": Comparison(
        title="Eyeriss: silicon",
        about="AlexNet's convolutions, batch 4, at 200 MHz (Chen et al., JSSC 2017, table V). Processing time leaves "
        "out loading from the memory outside. Accesses of the global buffer are a first-order count.",
        points=cache(eyeriss.points),
    ),
    "tpu": Comparison(
        title="TPU v1: silicon",
        about="Jouppi et al., ISCA 2017. The roofline has to lie above what was measured; how far above is how much "
        "an application waits for what is no limit (shifts, small layers, dependences). Results leave as the 8-bit "
        "codes that the chip makes of its sums, as in every estimate of inference on the profile.",
        points=cache(tpu.points),
    ),
    "ethos_u": Comparison(
        title="Ethos-U: Arm's compiler",
        about="Cycles of each operator of two MLPerf Tiny models by Vela 5.2.0, itself a model. As there, "
        "activations stay in SRAM and weights come from flash, uncompressed; an estimate on the profile sends "
        "activations through the flash's port too, and small layers wait for it. Depthwise layers are mapped as any "
        "estimate maps them; element-wise operators follow published figures of the output unit, which the cost "
        "model does not have. Rows that something was fitted to stand apart.",
        points=cache(ethos_u.points),
    ),
    "rapid": Comparison(
        title="RaPiD: sustained share in training",
        about="ResNet-50 in HFP8 on four 32-core chips against the range that Venkataramani et al., ISCA 2021, give "
        "over networks, of a model calibrated to silicon. The step has activations of 16 bits, and the share depends "
        "on how element-wise work is fused: by hand as a training compiler does it, or in a step that is traced from "
        "PyTorch, as `lowbit-sim estimate --profile rapid_hfp8 --model resnet50 --batch 128 --devices 4` prices it, "
        "between neighbours alone.",
        points=cache(rapid.points),
    ),
    "zigzag": Comparison(
        title="ZigZag 3.9.1: another cost model",
        about="Cycles and energy of GEMMs on ZigZag's own machines, written as profiles. Both sides are models: "
        "notes attribute the differences.",
        points=cache(zigzag.points),
    ),
    "accelforge": Comparison(
        title="AccelForge 1.0.467: another cost model",
        about="Cycles and energy of GEMMs on AccelForge's own machines, written as profiles. Both sides are models: "
        "notes attribute the differences. Its machine `simple` counts in units of its own; a closed form that was "
        "read off its figures reproduces them, which says nothing about the cost model.",
        points=cache(accelforge.points),
    ),
}


def comparisons(names: list[str] | None = None) -> dict[str, Comparison]:
    """Comparisons by their names, in the page's order; all of them by default.

    Args:
        names: Keys of `COMPARISONS`.

    Raises:
        ValueError: An unknown name.
    """
    for name in names or ():
        if name not in COMPARISONS:
            raise ValueError(unknown("comparison", name, COMPARISONS))
    return {key: value for key, value in COMPARISONS.items() if not names or key in names}

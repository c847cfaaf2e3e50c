"""The states of knobs from the evidence of a short run."""

import dataclasses

import pytest

from autotuner.errors import UserError
from autotuner.knobs.catalogue import KNOBS
from autotuner.knobs.knob import Configuration, Tier
from autotuner.knobs.liveness import Evidence, KnobState, Liveness, Loop, Site, find_liveness
from autotuner.knobs.selection import effective, select_knobs
from autotuner.trial.probe import read_onednn
from tests.fakes import machine

STOCK = Evidence(
    libraries={"openmp": [], "mkl": [], "allocator": []},
    threads={"tf_Compute": 2, "python": 3},
    onednn_runtime="threadpool",
    onednn_primitives={"matmul": 12},
)
INTEL = dataclasses.replace(
    STOCK, libraries={"openmp": ["libiomp5.so"], "mkl": []}, onednn_runtime="OpenMP"
)
OPENMP = ("omp_num_threads", "kmp_blocktime", "kmp_affinity")


def state_of(evidence: Evidence, knob: str, cpus: int = 4) -> Liveness:
    """Return one knob's state."""
    return find_liveness([knob], evidence, machine(affinity=cpus))[0]


def sites(*sites: Site) -> Evidence:
    """Return evidence of a script that iterates a pipeline with these sites."""
    return dataclasses.replace(STOCK, sites=(*sites, Site(op="iterate", where="t.py:9")))


def test_every_knob_has_a_rule() -> None:
    """Every knob of the catalogue has a rule, and every state a reason."""
    found = find_liveness(KNOBS, STOCK, machine())
    assert [one.knob for one in found] == list(KNOBS)
    assert all(one.reason for one in found)


@pytest.mark.parametrize("knob", OPENMP)
def test_openmp_is_inert_on_the_stock_wheel_and_live_on_intel_s(knob: str) -> None:
    """The same variable is inert on one build and live on another."""
    stock, intel = state_of(STOCK, knob), state_of(INTEL, knob)
    assert (stock.state, intel.state) == (KnobState.INERT, KnobState.LIVE)
    assert "runtime threadpool" in stock.evidence
    assert "libiomp5.so" in intel.evidence


def test_gnu_openmp_reads_only_its_own() -> None:
    """libgomp reads OMP_NUM_THREADS and none of Intel's variables."""
    gnu = dataclasses.replace(STOCK, libraries={"openmp": ["libgomp.so.1"]})
    assert [state_of(gnu, knob).state for knob in OPENMP] == [
        KnobState.LIVE,
        KnobState.INERT,
        KnobState.INERT,
    ]


def test_a_script_without_tf_data() -> None:
    """None of tf.data's knobs can act."""
    for name, knob in KNOBS.items():
        if knob.group.value == "data":
            assert state_of(STOCK, name).state is KnobState.INERT, name


def test_a_map_that_calls_python() -> None:
    """The map must stay sequential, so its parallelism and the pool are inert."""
    found = sites(Site(op="map", where="t.py:3", stateful=("PyFunc",), why_sequential="stateful"))
    assert state_of(found, "map_parallelism").state is KnobState.INERT
    assert "stateful" in state_of(found, "map_parallelism").reason
    assert state_of(found, "data_threads").state is KnobState.INERT
    assert state_of(found, "prefetch_depth").state is KnobState.LIVE


def test_a_map_that_its_author_made_parallel_is_live_whatever_it_does() -> None:
    """A parallel stateful map is live: the script has made it parallel itself."""
    site = Site(op="map", where="t.py:3", parallel="4", stateful=("PyFunc",), why_sequential="x")
    for knob in ("map_parallelism", "data_threads"):
        assert state_of(sites(site), knob).state is KnobState.LIVE


def test_a_loop_inside_a_function() -> None:
    """Its prefetch and its pool are inert; its maps are live."""
    found = dataclasses.replace(
        STOCK,
        sites=(Site(op="map", where="t.py:3"), Site(op="iterate in graph", where="t.py:5")),
    )
    assert state_of(found, "prefetch_depth").state is KnobState.INERT
    assert "tf.function" in state_of(found, "prefetch_depth").reason
    assert state_of(found, "map_parallelism").state is KnobState.LIVE


def test_callbacks_that_hear_of_batches_keep_the_steps() -> None:
    """steps_per_execution would make their calls rarer."""
    loop = Loop(loop="fit", where="t.py:3")
    free = dataclasses.replace(STOCK, loops=(loop,))
    bound = dataclasses.replace(
        STOCK, loops=(dataclasses.replace(loop, batch_callbacks=("Watch",)),)
    )
    assert state_of(free, "steps_per_execution").state is KnobState.LIVE
    assert state_of(bound, "steps_per_execution").state is KnobState.INERT
    assert "Watch" in state_of(bound, "steps_per_execution").reason
    assert state_of(STOCK, "steps_per_execution").state is KnobState.INERT  # no keras loop


def test_one_cpu_leaves_no_threads_to_choose() -> None:
    """A knob with one value is inert."""
    assert state_of(STOCK, "intra_op", cpus=1).state is KnobState.INERT


def test_onednn() -> None:
    """Live if a primitive ran, inert if none did, unknown if oneDNN printed nothing."""
    silent = dataclasses.replace(STOCK, onednn_runtime=None, onednn_primitives={})
    idle = dataclasses.replace(STOCK, onednn_primitives={})
    assert [state_of(e, "onednn").state for e in (STOCK, idle, silent)] == [
        KnobState.LIVE,
        KnobState.INERT,
        KnobState.UNKNOWN,
    ]


def test_what_is_searched() -> None:
    """The default is the safe knobs that are not inert; a name selects inert knobs as well."""
    liveness = {one.knob: one for one in find_liveness(KNOBS, STOCK, machine())}
    assert select_knobs((), liveness) == ("intra_op", "inter_op", "onednn")
    assert select_knobs(("openmp",), liveness) == ()
    assert select_knobs(("kmp_blocktime",), liveness) == ("kmp_blocktime",)
    everything = select_knobs(("all",), liveness)
    assert set(everything) == {n for n, k in KNOBS.items() if k.tier is not Tier.NUMERICS}
    assert "fpmath" in select_knobs(("fpmath",), liveness)
    assert "fpmath" not in select_knobs(("kernels", "extended"), liveness)
    with pytest.raises(UserError) as caught:
        select_knobs(("intra_opp",))
    assert caught.value.hint == 'did you mean "intra_op"?'


def test_what_a_configuration_comes_to() -> None:
    """With oneDNN off, OpenMP's variables are at their defaults."""
    default: Configuration = {"onednn": "1", "kmp_blocktime": "200", "intra_op": 2}
    off: Configuration = {"onednn": "0", "kmp_blocktime": "0", "intra_op": 1}
    assert effective(off, default) == {"onednn": "0", "kmp_blocktime": "200", "intra_op": 1}
    assert effective({**off, "onednn": "1"}, default)["kmp_blocktime"] == "0"


@pytest.mark.parametrize(
    "text",
    [
        "onednn_verbose,v1,info,oneDNN v3.7.3 (commit 1)\n"
        "onednn_verbose,v1,info,cpu,runtime:threadpool,nthr:2\n"
        "onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with AVX512BW\n"
        "half a line of the script's onednn_verbose,v1,primitive,exec,cpu,matmul,jit:avx512_core,"
        "undef,src_f32,,,0.1\n"
        "onednn_verbose,v1,primitive,exec,cpu,reorder,x\nonednn_verbose,v1,primitive,exec,cpu,matmul,y\n",
        "onednn_verbose,info,oneDNN v2.7.3\nonednn_verbose,info,cpu,runtime:threadpool,nthr:2\n"
        "onednn_verbose,info,cpu,isa:Intel AVX-512 with AVX512BW\n"
        "onednn_verbose,exec,cpu,matmul,a\nonednn_verbose,exec,cpu,matmul,b\n"
        "onednn_verbose,exec,cpu,reorder,c\n",
    ],
)
def test_onednn_s_verbose_lines(text: str) -> None:
    """Both forms of oneDNN's lines are read, among other output of the script."""
    said = read_onednn(text)
    assert said.runtime == "threadpool"
    assert said.isa == "Intel AVX-512 with AVX512BW"
    assert said.primitives == {"matmul": 2, "reorder": 1}


def test_nothing_said() -> None:
    """The script's own output is not mistaken for oneDNN's."""
    assert read_onednn("loss 0.1\n").runtime is None

from dataclasses import replace

from hw_models.mapping.kernel.inputs import MEMORIES, gemm_numbers, machine_numbers
from hw_models.mapping.problem import Beside
from hw_models.schema.memory import MAX_STAGES, OPERANDS
from tests.hw_models.mapping.problems import BYPASSED, TWO_STAGES, gemm, problem


def test_there_is_room_for_every_machine():
    assert MEMORIES == MAX_STAGES * len(OPERANDS) + 1


def test_memories_lie_in_their_order_and_the_one_outside_behind_them():
    found = machine_numbers(BYPASSED)  # registers hold the rhs, a cache beyond the others
    assert found["holds"].tolist() == [[-1, 0, -1], [1, -1, 1]]
    assert found["outwards"].tolist() == [[1, 2, 1], [2, 2, 2]]
    assert found["innermost"].tolist() == [1, 0, 1]
    assert (found["stages"], found["levels"]) == (2, 2)
    # 8000 bits a second at 1000 Hz.
    assert found["bits"][2] / found["clocks"][2] == 8


def test_what_runs_beside_lies_where_its_memory_does():
    one = problem(gemm(4, 4, 4))
    crowded = replace(one, beside=Beside(cycles=7, bits=(("cache", 5), ("dram", 9))))
    assert gemm_numbers(one, TWO_STAGES)["beside_bits"].tolist() == [0] * MEMORIES
    found = gemm_numbers(crowded, TWO_STAGES)
    assert found["beside_bits"].tolist()[:4] == [0, 0, 5, 9]
    assert found["beside_cycles"] == 7

"""What is wrong with a profile is said: file, line, key, value, and what would be right."""

import re
import tomllib

import pytest

import hw_models
from hw_models import ProfileError
from tests.hw_models.example import example, example_text, line_of_text

SECOND_MODE = """[[array.modes]]
source = "assumption: for the test"
operand_bits = 8 # again
macs_per_pe_per_cycle = 1

"""


def error_of(text: str) -> str:
    with pytest.raises(ProfileError) as error:
        hw_models.parse(text, "mine.toml")
    return str(error.value)


SRAM_BITS = "[[memory.sram.accesses]]\n# Width of an access in bits. [integer > 0]\nbits = 64"


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        pytest.param(
            ("\nrows = 16", "\nrows = 16\nrosw = 4"),
            "rosw = 4",
            "array.rosw: unknown key 'rosw': known are arrays, columns, dataflow, depthwise_over_columns, "
            "loading, modes, padded_loads, pixel_columns, pixel_rows, rows, skips_zeros, source, sources, "
            "startup_cycles, steps_padded_to; did you mean 'rows'?",
            id="misspelt key",
        ),
        pytest.param(
            ("\noperand_bits = 8", "\noperand_bits = 8\noperand_bit = 4"),
            "operand_bit = 4",
            "array.modes.0.operand_bit: unknown key 'operand_bit': known are add_pj, kind, macs_per_pe_per_cycle, "
            "multiply_pj, operand_bits, source, sources; did you mean 'operand_bits'?",
            id="misspelt key of a repeated table",
        ),
        pytest.param(
            ("[clock]", "[clok]\n[clock]"),
            "[clok]",
            "clok: unknown key 'clok': known are area, arithmetic, array, clock, energy, interconnect, machine, "
            "memory, vector; did you mean 'clock'?",
            id="misspelt table",
        ),
        pytest.param(
            ("\nfrequency_hz = 1_000_000_000", ""),
            "[clock]",
            "clock.frequency_hz: missing (clock frequency in Hz)",
            id="missing key",
        ),
        pytest.param(
            ("\nrows = 16", '\nrows = "four"'),
            'rows = "four"',
            "array.rows = 'four': expected an integer > 0",
            id="wrong type",
        ),
        pytest.param(
            ("\nrows = 16", "\nrows = true"),
            "rows = true",
            "array.rows = true: expected an integer > 0",
            id="boolean for an integer",
        ),
        pytest.param(
            ("\nrows = 16", "\nrows = 4.0"),
            "rows = 4.0",
            "array.rows = 4.0: expected an integer > 0",
            id="float for an integer",
        ),
        pytest.param(
            ("\nrows = 16", "\nrows = 0"),
            "rows = 0",
            "array.rows = 0: expected an integer > 0",
            id="out of range",
        ),
        pytest.param(
            ("register_pj_per_bit = 0.003", "register_pj_per_bit = nan"),
            "register_pj_per_bit = nan",
            "energy.register_pj_per_bit = nan: expected a finite number that is not negative (pJ of a bit that a "
            "register of a processing element takes over)",
            id="not a number",
        ),
        pytest.param(
            ("register_pj_per_bit = 0.003", "register_pj_per_bit = -1"),
            "register_pj_per_bit = -1",
            "energy.register_pj_per_bit = -1: expected a finite number that is not negative (pJ of a bit that a "
            "register of a processing element takes over)",
            id="negative figure",
        ),
        pytest.param(
            ("register_pj_per_bit = 0.003", "register_pj_per_bit = true"),
            "register_pj_per_bit = true",
            "energy.register_pj_per_bit = true: expected a number, or a table { low = ..., nominal = ..., high = ... "
            "} with sources (pJ of a bit that a register of a processing element takes over)",
            id="no figure",
        ),
        pytest.param(
            ("register_pj_per_bit = 0.003", "register_pj_per_bit = { low = 2, nominal = 1, high = 3 }"),
            "register_pj_per_bit = {",
            "energy.register_pj_per_bit: a figure has low <= nominal <= high, got 2.0, 1.0, 3.0",
            id="figure out of order",
        ),
        pytest.param(
            ("register_pj_per_bit = 0.003", "register_pj_per_bit.low = 1\nregister_pj_per_bit.nominal = 2"),
            "register_pj_per_bit.low = 1",
            "energy.register_pj_per_bit.high: missing (the highest published value)",
            id="figure without an end",
        ),
        pytest.param(
            ("register_pj_per_bit = 0.003", "register_pj_per_bit = { low = 1, nominal = 2, high = 2 }"),
            "register_pj_per_bit = {",
            "energy.register_pj_per_bit: low_source missing: say where each end of the range comes from",
            id="end of a figure without a source",
        ),
        pytest.param(
            ('dataflow = "ws"', 'dataflow = "weight"'),
            'dataflow = "weight"',
            "array.dataflow = 'weight': expected 'ws', 'os', 'is', 'rs' or 'spatial' (what stays in the "
            'array: "ws" weights, "os" outputs, "is" inputs, "rs" rows of a convolution; "spatial" for adder trees '
            "without skew)",
            id="unknown dataflow",
        ),
        pytest.param(
            ('mode = "stochastic"', 'mode = "stochstic"'),
            'gradient_rounding = { mode = "stochstic"',
            "arithmetic.gradient_rounding: unknown rounding mode 'stochstic': known are down, nearest_away, "
            "nearest_even, stochastic, toward_zero, up; did you mean 'stochastic'?",
            id="unknown rounding",
        ),
        pytest.param(
            ("random_bits = 8", "random_bits = 0"),
            "gradient_rounding = { mode",
            "arithmetic.gradient_rounding: stochastic rounding needs random_bits from 1 to 32, got 0",
            id="no random bits",
        ),
        pytest.param(
            ('format = "int8"', 'format = "int99"'),
            'format = "int99"',
            "arithmetic.format = 'int99': unknown format 'int99'",
            id="unknown format",
        ),
        pytest.param(
            ("#mac = { accumulator", "mac = { acumulator"),
            "mac = { acumulator",
            "arithmetic.mac.acumulator: unknown key 'acumulator': known are accumulator_bits, chunk",
            id="misspelt key of a table of numerics",
        ),
        pytest.param(
            ('#mac = { accumulator = "fp32" }', "[arithmetic.mac]\nchunk = 4\nordr = 1\n[arithmetic.output]"),
            "ordr = 1",
            "arithmetic.mac.ordr: unknown key 'ordr': known are accumulator_bits, chunk",
            id="misspelt key of a nested table",
        ),
        pytest.param(
            ("#chunk = 64", "chunk = 64\nmac = { chunk = 64 }"),
            "[arithmetic]",
            "arithmetic: chunk would have no effect beside mac: write them into mac's table",
            id="two MAC units",
        ),
        pytest.param(
            ('#requantizer = "float"', 'requantizer = "double"'),
            'requantizer = "double"',
            "arithmetic.requantizer = 'double': expected 'float', 'integer_double' or 'integer_single'",
            id="unknown requantiser",
        ),
        pytest.param(
            ("\noperand_bits = 8", "\noperand_bits = 8\nmultiply_pj = 0.1"),
            "multiply_pj = 0.1",
            "array.modes.0.multiply_pj: is for kind = 'float' and 'log'; an integer mode's energy follows from",
            id="energy of an integer mode",
        ),
        pytest.param(
            ("\nfrequency_hz =", '\nsources = { frequency = "data sheet" }\nfrequency_hz ='),
            "sources = { frequency",
            "clock.sources.frequency: unknown key under sources 'frequency': known are frequency_hz; did you mean "
            "'frequency_hz'?",
            id="source of no key",
        ),
        pytest.param(
            ("\nfrequency_hz =", '\nsources.frequency_hz = " "\nfrequency_hz ='),
            "sources.frequency_hz",
            "clock.sources.frequency_hz = ' ': String should have at least 1 character",
            id="empty source of a key",
        ),
        pytest.param(
            (SRAM_BITS, SRAM_BITS.replace("bits = 64", "bitz = 64\nbits = 64")),
            "bitz = 64",
            "memory.sram.accesses.0.bitz: unknown key 'bitz': known are bits, read_pj, write_pj; did you mean",
            id="misspelt key of a repeated table in a level of any name",
        ),
        pytest.param(
            ('holds = ["result"]', 'holds = ["results"]'),
            'holds = ["results"]',
            "memory.accumulator.holds.0 = 'results': expected 'lhs', 'rhs' or 'result'; did you mean 'result'?",
            id="unknown operand",
        ),
        pytest.param(
            ("capacity_bytes = 65_536", "capacity = 65_536"),
            "[memory.accumulator]",
            "memory.accumulator.capacity_bytes: missing (capacity in bytes)",
            id="missing key of a level",
        ),
        pytest.param(
            ("\n[memory.dram]", "\n[memory.dramm]"),
            "[memory.dramm]",
            "memory.dramm: did you mean memory.dram? It has the keys of the memory outside, which is missing",
            id="misspelt dram",
        ),
        pytest.param(
            ("#pixel_columns = 1", "pixel_columns = 2"),
            "pixel_columns = 2",
            "array.pixel_columns: is for dataflow = 'spatial' (it is 'ws'): leave it out",
            id="pixels of a systolic array",
        ),
        pytest.param(
            ("\n[vector]", f"\n{SECOND_MODE}[vector]"),
            "operand_bits = 8 # again",
            "array.modes.1.operand_bits: integer operand_bits = 8 is given more than once",
            id="mode twice",
        ),
        pytest.param(
            (
                SRAM_BITS,
                f"{SRAM_BITS} # first\nread_pj = 1.0\nwrite_pj = 1.0\n[[memory.sram.accesses]]\nbits = 32 #",
            ),
            "bits = 32 #",
            "memory.sram.accesses.1.bits: accesses have ascending widths, got 64 before 32 bits",
            id="descending accesses",
        ),
        pytest.param(
            ("\ngradient_rounding =", '\ngradient = "luq"\ngradient_rounding ='),
            "gradient_rounding = {",
            "arithmetic.gradient_rounding: gradient_rounding would have no effect beside gradient",
            id="gradient beside gradient_rounding",
        ),
    ],
)
def test_an_invalid_profile_is_explained(change, place, message):
    text = example_text(change)
    expected = f"mine.toml:{line_of_text(text, place)}: {message}"
    assert any(line.startswith(expected) for line in error_of(text).splitlines()), error_of(text)


TABLES = dict.fromkeys(re.findall(r"^\[+([a-z.]+)\]+\nsource", example_text(), re.MULTILINE))


def test_the_tables_with_sources_are_seen():
    assert len(TABLES) == 10


@pytest.mark.parametrize("table", TABLES)
def test_every_table_must_name_its_source(table):
    text = re.sub(rf"(\[{table}\]+\n)source = .*\n", r"\1", example_text(), count=1)
    key = table.replace("array.modes", "array.modes.0")
    header = "[[array.modes]]" if table == "array.modes" else f"[{table}]"
    assert error_of(text) == (
        f"mine.toml:{line_of_text(text, header)}: {key}.source: missing (where the numbers of this table come "
        'from: a citation, or "assumption" and why)'
    )


def test_a_single_bracket_around_repeated_tables_is_explained():
    text = example_text(("\n[[array.modes]]", "\n[array.modes]"))
    assert error_of(text) == (
        f"mine.toml:{line_of_text(text, '[array.modes]')}: array.modes: expected repeated tables: write "
        "[[TABLE.KEY]] with two brackets, once for each"
    )


def test_all_that_is_wrong_is_said_at_once_with_the_line_of_each():
    text = example_text(("\nrows = 16", "\nrows = -4"), ("\nlanes = 16", "\nlanes = true"))
    rows, lanes = error_of(text).splitlines()
    assert rows.startswith(f"mine.toml:{line_of_text(text, 'rows = -4')}: array.rows = -4: ")
    assert lanes.startswith(f"mine.toml:{line_of_text(text, 'lanes = true')}: vector.lanes = true: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\n[array\n",
            "mine.toml:2: not valid TOML at '[array': Expected ']' at the end of a table declaration",
        ),
        ("[array]\nrows = [1,", "mine.toml:2: not valid TOML at the end of the file: "),
        (
            "[array]\nrows = 1\nrows = 2\n",
            "mine.toml:3: not valid TOML at 'rows = 2': Cannot overwrite a value",
        ),
        ("[array]\n[array]\n", "mine.toml:2: not valid TOML at '[array]': Cannot declare ('array',) twice"),
        ("", "mine.toml:1: machine: missing (what the machine is)"),
    ],
    ids=["header", "unfinished", "key twice", "table twice", "empty"],
)
def test_malformed_toml_is_located(text, message):
    assert error_of(text).startswith(message)


@pytest.mark.parametrize(
    "text", ["[array]\nrows = 1\nrows = 2\n", "[array]\n[array]\n"], ids=["key", "table"]
)
def test_a_key_given_twice_is_explained(text):
    assert error_of(text).endswith("each key and each table may appear once")


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(ProfileError) as error:
        hw_models.load("tpu_v")
    known = ", ".join(hw_models.profile_names())
    assert str(error.value).startswith(f"unknown profile 'tpu_v': known are {known}; did you mean 'tpu_v")
    assert str(error.value).endswith(" (or pass a path to a .toml file)")


@pytest.mark.parametrize("value", [3, None, b"tpu_v1"])
def test_what_is_neither_a_name_nor_a_path_is_named(value):
    with pytest.raises(TypeError) as error:
        hw_models.load(value)
    known = ", ".join(hw_models.profile_names())
    assert (
        str(error.value)
        == f"a profile is a name or the path of a .toml file, got {value!r}; names are {known}"
    )


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nowhere.toml"
    with pytest.raises(ProfileError, match=re.escape(f"can't read the profile {path}: No such file")):
        hw_models.load(path)


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="binary.toml: it is not UTF-8 text"):
        hw_models.load(path)


@pytest.mark.parametrize("convert", [str, lambda path: path])
def test_a_path_is_read(tmp_path, convert):
    path = tmp_path / "mine.toml"
    path.write_text(example_text())
    assert hw_models.load(convert(path)) == example()


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(example_text(), encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert hw_models.load(path) == example()


def test_a_misspelt_dram_is_told_once():
    (message,) = error_of(example_text(("\n[memory.dram]", "\n[memory.dramm]"))).splitlines()
    assert "did you mean memory.dram?" in message


def test_an_unknown_format_names_the_nearest_and_where_the_list_is():
    message = error_of(example_text(('format = "int8"', 'format = "int88"')))
    assert "unknown format 'int88'; did you mean 'int8', " in message
    assert "docs/formats.md lists all " in message
    assert "posit16" not in message


def test_an_invalid_file_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(example_text(("\nrows = 16", "\nrows = 0")))
    with pytest.raises(ProfileError, match=rf"{re.escape(str(path))}:\d+: array.rows = 0"):
        hw_models.load(path)


def test_files_of_products_are_relative_to_the_profile(tmp_path):
    import numpy as np

    codes = np.arange(-8, 8)
    np.save(tmp_path / "products.npy", np.outer(codes, codes))
    text = example_text(
        ('format = "int8"', 'format = "int4"'),
        ('#mac = { accumulator = "fp32" }', 'mac = { products = "products.npy" }'),
    )
    (tmp_path / "mine.toml").write_text(text)
    spec = hw_models.load(tmp_path / "mine.toml").gemm_spec("output")
    assert spec is not None
    assert spec.mac.products is not None
    assert spec.mac.products.table[0, 0] == 64
    np.save(tmp_path / "products.npy", np.outer(codes, -codes))
    changed = hw_models.load(tmp_path / "mine.toml").gemm_spec("output")
    assert changed is not None
    assert changed.mac.products.table[0, 0] == -64
    assert "can't read the products" in error_of(text)


def test_a_profile_that_is_read_is_what_the_table_says():
    text = example_text()
    table = tomllib.loads(text)
    profile = hw_models.parse(text, "mine.toml")
    assert profile.array.rows == table["array"]["rows"]
    assert list(profile.memory.levels) == ["sram", "accumulator"]
    assert profile.memory.stages == (("sram", "accumulator"),)
    assert profile.energy.multiply[0].pj.nominal == table["energy"]["multiply"][0]["pj"]
    assert profile.area is None
    assert profile.interconnect is None

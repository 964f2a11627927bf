"""What is wrong with a profile is said: file, key, value, and what would be right."""

import re

import pytest

import hw_models
from hw_models import ProfileError
from tests.hw_models.machines import TINY, tiny_text


def error_of(text: str) -> str:
    with pytest.raises(ProfileError) as error:
        hw_models.parse(text, "mine.toml")
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            ("columns = 4", "columns = 4\ncolums = 4"),
            "mine.toml: array.colums: unknown key 'colums': known are arrays, columns, dataflow, modes, rows, "
            "source, sources; did you mean 'columns'?",
            id="misspelt key",
        ),
        pytest.param(
            ("operand_bits = 4", "operand_bits = 4\noperand_bit = 4"),
            "mine.toml: array.modes.1.operand_bit: unknown key 'operand_bit': known are add_pj, kind, "
            "macs_per_pe_per_cycle, multiply_pj, operand_bits, source, sources; did you mean 'operand_bits'?",
            id="misspelt key in a mode",
        ),
        pytest.param(
            ("[clock]", "[clok]\n[clock]"),
            "mine.toml: clok: unknown key 'clok': known are arithmetic, array, clock, energy, machine, memory, "
            "vector; did you mean 'clock'?",
            id="misspelt table",
        ),
        pytest.param(
            ("frequency_hz = 1000", ""),
            "mine.toml: clock.frequency_hz: missing (clock frequency in Hz)",
            id="missing key",
        ),
        pytest.param(
            ("rows = 4", 'rows = "four"'),
            "mine.toml: array.rows = 'four': Input should be a valid integer (rows of processing elements of one "
            "array)",
            id="wrong type",
        ),
        pytest.param(
            ("rows = 4", "rows = 4.0"),
            "mine.toml: array.rows = 4.0: Input should be a valid integer (rows of processing elements of one array)",
            id="float for an integer",
        ),
        pytest.param(
            ("rows = 4", "rows = 0"),
            "mine.toml: array.rows = 0: Input should be greater than 0 (rows of processing elements of one array)",
            id="out of range",
        ),
        pytest.param(
            ("multiply_pj = 0.2", "multiply_pj = nan"),
            "mine.toml: energy.multiply_pj = nan: Input should be a finite number (pJ of an integer multiply of "
            "multiply_bits)",
            id="not a number",
        ),
        pytest.param(
            ('dataflow = "ws"', 'dataflow = "weight"'),
            "mine.toml: array.dataflow = 'weight': Input should be 'ws', 'os' or 'is' (what stays in the array: "
            '"ws" weights, "os" outputs, "is" inputs)',
            id="unknown dataflow",
        ),
        pytest.param(
            ('gradient_rounding = "stochastic"', 'gradient_rounding = "stochstic"'),
            "mine.toml: arithmetic.gradient_rounding = 'stochstic': unknown rounding mode 'stochstic': known are "
            "down, nearest_away, nearest_even, stochastic, toward_zero, up; did you mean 'stochastic'? (rounding "
            "mode of output gradients)",
            id="unknown rounding",
        ),
        pytest.param(
            ("gradient_random_bits = 8", "gradient_random_bits = 0"),
            "mine.toml: arithmetic: gradient_random_bits = 0: stochastic rounding needs random_bits from 1 to 32, "
            "got 0",
            id="no random bits",
        ),
        pytest.param(
            ('weight_format = "int8"', 'weight_format = "fp16"'),
            "mine.toml: arithmetic.weight_format = 'fp16': 'fp16' is a float format, but the array accumulates "
            "integer products only (format of weights in GEMMs)",
            id="float format",
        ),
        pytest.param(
            ('weight_format = "int8"', 'weight_format = "int9"'),
            "mine.toml: arithmetic.weight_format = 'int9' is wider than the integer modes of the array "
            "(array.modes: [4, 8] bits)",
            id="format wider than the array",
        ),
        pytest.param(
            ("operand_bits = 4", "operand_bits = 8"),
            "mine.toml: array: modes has integer operand_bits = 8 more than once",
            id="mode twice",
        ),
        pytest.param(
            ("operand_bits = 4", "operand_bits = 4\nmultiply_pj = 0.1"),
            "mine.toml: array.modes.1: multiply_pj is given for kind = 'float' and only there (kind is 'integer')",
            id="energy of an integer mode",
        ),
        pytest.param(
            ("frequency_hz = 1000", 'frequency_hz = 1000\nsources = { frequency = "data sheet" }'),
            "mine.toml: clock: unknown key under sources 'frequency': known are frequency_hz; did you mean "
            "'frequency_hz'?",
            id="source of no key",
        ),
        pytest.param(
            ("frequency_hz = 1000", 'frequency_hz = 1000\nsources = { frequency_hz = " " }'),
            "mine.toml: clock.sources.frequency_hz = ' ': String should have at least 1 character",
            id="empty source of a key",
        ),
    ],
)
def test_an_invalid_profile_is_explained(change, message):
    assert error_of(tiny_text(change)) == message


@pytest.mark.parametrize("table", dict.fromkeys(re.findall(r"^\[+([a-z.]+)\]+$", TINY, re.MULTILINE)))
def test_every_table_must_name_its_source(table):
    text = re.sub(rf"(\[{table}\]+\n)source = .*\n", r"\1", TINY, count=1)
    key = table.replace("array.modes", "array.modes.0")
    assert error_of(text) == (
        f"mine.toml: {key}.source: missing (where the numbers of this table come from: a citation, or "
        '"assumption" and why)'
    )


def test_a_source_is_not_empty():
    message = error_of(tiny_text(('source = "Horowitz, ISSCC 2014"', 'source = "  "')))
    assert message.startswith("mine.toml: energy.source = '  ': String should have at least 1 character")


def test_a_single_bracket_around_modes_is_explained():
    start = TINY.index("[[array.modes]]", TINY.index("[[array.modes]]") + 1)
    one_mode = TINY[:start] + TINY[TINY.index("[vector]") :]
    message = error_of(one_mode.replace("[[array.modes]]", "[array.modes]"))
    assert message == (
        "mine.toml: array.modes: each mode is a table of its own, under [[array.modes]] with two brackets"
    )


def test_all_that_is_wrong_is_said_at_once():
    lines = error_of(tiny_text(("rows = 4", "rows = -4"), ("lanes = 4", "lanes = true"))).splitlines()
    assert [line.split(" = ")[0] for line in lines] == ["mine.toml: array.rows", "mine.toml: vector.lanes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[array\n", "mine.toml: not valid TOML at '[array': Expected ']' at the end of a table declaration"),
        ("[array]\nrows = [1,", "mine.toml: not valid TOML at 'the end of the file': "),
        (
            "[array]\nrows = 1\nrows = 2\n",
            "mine.toml: not valid TOML at 'rows = 2': Cannot overwrite a value",
        ),
        ("[array]\n[array]\n", "mine.toml: not valid TOML at '[array]': Cannot declare ('array',) twice"),
    ],
)
def test_malformed_toml_is_located(text, message):
    assert error_of(text).startswith(message)


@pytest.mark.parametrize("text", ["[array]\nrows = 1\nrows = 2\n", "[array]\n[array]\n"])
def test_a_key_given_twice_is_explained(text):
    assert error_of(text).endswith("each key and each table may appear once")


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(ProfileError) as error:
        hw_models.load("tpu_v2")
    assert str(error.value) == (
        "unknown profile 'tpu_v2': known are edge_npu, rapid_training, tpu_v1; did you mean 'tpu_v1'? "
        "(or pass a path to a .toml file)"
    )


@pytest.mark.parametrize("value", [3, None, b"tpu_v1"])
def test_what_is_neither_a_name_nor_a_path_is_named(value):
    with pytest.raises(TypeError) as error:
        hw_models.load(value)
    assert str(error.value) == (
        f"a profile is a name or the path of a .toml file, got {value!r}; names are edge_npu, rapid_training, tpu_v1"
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
    path.write_text(TINY)
    assert hw_models.load(convert(path)) == hw_models.parse(TINY, "tiny.toml")


def test_an_invalid_file_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(tiny_text(("rows = 4", "rows = 0")))
    with pytest.raises(ProfileError, match=re.escape(f"{path}: array.rows = 0")):
        hw_models.load(path)

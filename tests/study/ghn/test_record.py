import json

import pytest

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.record import is_ghn_record, marked_table, read_ghn_result
from lowbit_sim.study.ghn.results import to_dict
from lowbit_sim.study.markdown_table import updated_page
from tests.study.ghn.test_tables import RESULT


@pytest.fixture
def record(tmp_path):
    (tmp_path / "records").mkdir()
    path = tmp_path / "records" / "tiny.json"
    path.write_text(json.dumps(to_dict(RESULT)))
    return path


def test_a_page_s_marks_are_filled(record, tmp_path):
    page = (
        "Text.\n<!-- tiny -->\nold\n<!-- end of tiny -->\n"
        "<!-- tiny: by_split, precision:W32A32 -->\n<!-- end of tiny -->\n"
    )
    found = updated_page(page, tmp_path)
    assert "| float | 50.0 ± 15.3 (90.0) | 25.0 ± 7.6 (45.0) |" in found
    assert "| arm | test (3) | deep (1) |" in found
    assert "old" not in found
    assert updated_page(found, tmp_path) == found


def test_records_of_other_studies_are_told_apart(record, tmp_path):
    assert is_ghn_record(record)
    assert read_ghn_result(record) == RESULT
    other = tmp_path / "other.json"
    other.write_text('{"arms": []}')
    for path in (other, tmp_path / "none.json", tmp_path):
        assert not is_ghn_record(path)
        with pytest.raises(StudyError, match="is not a record of lowbit-sim ghn"):
            read_ghn_result(path)


def test_a_damaged_record_is_refused(record):
    broken = json.loads(record.read_text())
    del broken["arms"][0]["runs"][0]["seed"]
    record.write_text(json.dumps(broken))
    with pytest.raises(StudyError, match="damaged record of lowbit-sim ghn: KeyError 'seed'"):
        marked_table(record, [])

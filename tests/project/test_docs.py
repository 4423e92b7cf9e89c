"""What the documentation shows works, and its tables are those of the metafile."""

import re
import subprocess
import sys

import pytest
import yaml


def test_the_new_backbone_of_the_docs_works(repo_root):
    page = (repo_root / 'docs' / 'new_backbone.md').read_text(encoding='utf-8')
    (example,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 40
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', 'import las_mm\n' + example],
        capture_output=True,
        text=True,
        cwd=repo_root,
    )
    assert done.returncode == 0, done.stderr
    macs, ratio = done.stdout.split()
    assert int(macs) > 0
    assert 0 < float(ratio) < 2


PAGES = ['installation.md', 'new_backbone.md', 'models.md', 'robustness.md']


@pytest.mark.parametrize('page', PAGES)
def test_files_that_the_docs_name_exist(repo_root, page):
    text = (repo_root / 'docs' / page).read_text(encoding='utf-8')
    for path in re.findall(r'`((?:las_mm|tools|configs)/[^`]+\.\w+)`', text):
        assert (repo_root / path).is_file(), path
    for path in re.findall(r'\]\((?!https:)([^)]+)\)', text):
        assert (repo_root / 'docs' / path).is_file(), path


def test_tables_are_up_to_date(load_tool):
    assert load_tool('make_model_tables').main(['--check']) == 0


def test_tables_out_of_date_are_found_and_written_anew(load_tool, tmp_path):
    tool, out = load_tool('make_model_tables'), tmp_path / 'models.md'
    out.write_text('old')
    assert tool.main(['--check', '--out', str(out)]) == 1
    assert out.read_text() == 'old'
    assert tool.main(['--out', str(out)]) == 0
    assert '| 39.8 | 79.3 | 30.7 | 82.5 | 477.1 | paper, Table 2 |' in out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ['models.md']


@pytest.mark.parametrize(
    ('content', 'message'),
    [(None, 'no file'), ('[1', 'while parsing'), ('a: 1', "has no list 'Models'")],
)
def test_a_wrong_metafile_is_one_line(load_tool, tmp_path, capsys, content, message):
    path = tmp_path / 'metafile.yml'
    if content is not None:
        path.write_text(content)
    assert load_tool('make_model_tables').main(['--metafile', str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_every_result_is_in_the_index_and_says_whose_numbers_it_shows(repo_root):
    index = yaml.safe_load((repo_root / 'model-index.yml').read_text())
    models = []
    for name in index['Import']:
        models += yaml.safe_load((repo_root / name).read_text())['Models']
    configs = {str(path.relative_to(repo_root)) for path in (repo_root / 'configs').glob('*.py')}
    assert {model['Config'] for model in models} == {c for c in configs if '_demo' not in c}
    for model in models:
        assert model['Config'] == f'configs/{model["Name"]}.py'
        granularity = model['Metadata'].get('Granularity')
        assert granularity is None or granularity in model['Name'] or 'dynconv' in model['Name']
        for result in model['Results']:
            assert ('Metrics' in result) == ('Source' in result)
            assert result.get('Source', 'paper').startswith('paper')

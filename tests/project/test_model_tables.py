"""The tables of docs/models.md are those of the metafile, which has every config."""

import pytest
import yaml


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
        named = {'all': '_layer_'}.get(granularity, granularity)
        assert named is None or named in model['Name'] or 'dynconv' in model['Name']
        groups = model['Metadata'].get('Channels per group')
        assert groups is None or f'channel-{groups.replace("-", "")}' in model['Name']
        policies = model['Metadata'].get('Policies', 'none')
        joint = 'joint_' if model['Name'].startswith('laud') else 'ada_'
        named = {'none': '', 'tokens-heads-blocks': joint}.get(policies, f'{policies}_')
        assert named in model['Name']
        for result in model['Results']:
            assert ('Metrics' in result) == ('Source' in result)
            assert result.get('Source', 'paper').startswith(
                ('paper', 'DynConv', 'LAUDNet', 'AdaViT')
            )

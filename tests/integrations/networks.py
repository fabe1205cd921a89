"""What tests of backbones and of configs share."""

from unittest import mock

import torch


def build_without_memory(cfg):
    """The model of a config on the meta device."""
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope('mmpretrain')
    linspace = torch.linspace
    # from which mmpretrain takes numbers
    with torch.device('meta'), mock.patch('torch.linspace', lambda *args, **kwargs: linspace(*args, **kwargs, device='cpu')):
        return MODELS.build(cfg.model)


#: learnable parameters with 100 classes, by depth, method, replaced layers and kernels, counted in the networks that the paper's authors trained
PARAMETERS = {
    (18, 'standard', 'layer2-4', 'learnt'): 11_220_132,
    (18, 'deform', 'layer2-4', 'learnt'): 11_728_380,
    (18, 'shifted', 'layer2-4', 'learnt'): 11_276_604,
    (18, 'metric', 'layer2-4', 'learnt'): 11_417_784,
    (18, 'deform', 'layer2-4', 'fixed'): 890_364,
    (18, 'shifted', 'layer2-4', 'fixed'): 438_588,
    (18, 'metric', 'layer2-4', 'fixed'): 551_532,
    (18, 'standard', 'layer4', 'learnt'): 11_220_132,
    (18, 'deform', 'layer4', 'learnt'): 11_510_508,
    (18, 'shifted', 'layer4', 'learnt'): 11_252_396,
    (18, 'metric', 'layer4', 'learnt'): 11_333_056,
    (50, 'standard', 'layer2-4', 'learnt'): 23_705_252,
    (50, 'deform', 'layer2-4', 'learnt'): 24_286_094,
    (50, 'shifted', 'layer2-4', 'learnt'): 23_769_790,
    (50, 'metric', 'layer2-4', 'learnt'): 23_931_135,
    (50, 'standard', 'layer4', 'learnt'): 23_705_252,
    (50, 'deform', 'layer4', 'learnt'): 23_954_138,
    (50, 'shifted', 'layer4', 'learnt'): 23_732_906,
    (50, 'metric', 'layer4', 'learnt'): 23_802_041,
    (152, 'standard', 'layer4', 'learnt'): 58_341_028,
    (152, 'deform', 'layer4', 'learnt'): 58_589_914,
    (152, 'shifted', 'layer4', 'learnt'): 58_368_682,
    (152, 'metric', 'layer4', 'learnt'): 58_437_817,
}

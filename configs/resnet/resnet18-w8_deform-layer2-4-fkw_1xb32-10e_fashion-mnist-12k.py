_base_ = ['./resnet18-w8_deform-layer2-4-fkw_1xb32-3e_fashion-mnist-12k.py', '../_base_/schedules/adamw_10e_small.py']

_base_ = [
    '../_base_/models/denoiser_metric.py',
    '../_base_/datasets/voc2012_noise.py',
    '../_base_/schedules/sgd_100e_denoising.py',
    '../_base_/denoising_runtime.py',
]

model = dict(conv=dict(fixed_kernel=False))
# the paper's for sigma 0.1; paper.json has those of the other noises and kernel sizes
optim_wrapper = dict(optimizer=dict(lr=0.1))
randomness = dict(seed=42)

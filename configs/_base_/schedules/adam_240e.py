# The paper's schedule: Adam with L2-coupled weight decay, cosine annealing to 0 over 240 epochs, batch 128 in all. The weight decay is in the
# authors' release alone. Its batches are the same in every epoch, for want of a set_epoch; here they are drawn anew
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-4, weight_decay=1e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=240, eta_min=0, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)

# Deliberate mistakes which the golden test must notice; run.sh says how.
dist_check_SCRIPTS += %D%/run.sh
EXTRA_DIST += %D%/bias.mut %D%/gate_up.mut %D%/kv_head.mut %D%/nope_norm.mut %D%/output_scale.mut %D%/qk_norm.mut \
    %D%/rope_scaling.mut %D%/rotate_half.mut %D%/slice_join.mut %D%/slices.mut \
    %D%/softmax.mut %D%/temperature.mut %D%/window.mut
if !SANITIZE
TESTS += %D%/run.sh
endif
EXTRA_DIST += %D%/vision_class_first.mut %D%/vision_global_padded.mut %D%/vision_one_gelu.mut
EXTRA_DIST += %D%/vision_order.mut %D%/vision_patch_order.mut %D%/vision_post_norm.mut %D%/vision_resize.mut
EXTRA_DIST += %D%/vision_rope_axes.mut %D%/vision_rope_zero.mut %D%/vision_shuffle.mut %D%/vision_tanh.mut
EXTRA_DIST += %D%/vision_tile_order.mut %D%/vision_values.mut

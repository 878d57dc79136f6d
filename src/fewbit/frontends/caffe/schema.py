"""What may stand in a network of Caffe: the fields of each message, their numbers in binary files, and their kinds.

    "Pooling": "pool 1 MAX|AVE|STOCHASTIC, kernel_size 2 int, stride 3 int, …"

    int float bool text     a number, a word                     Name    a message of that name
    A|B=3|C                 one of these words: 0, 3, 4          -       anything; it means nothing at inference
    floats doubles          weights, kept as bytes               *       any number of them

Number 0: forks disagree on it, so the field is read from text only. The numbers are those of BVLC's Caffe and of the
SSD fork.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

MESSAGES = {
    "Net": "name 1 text, layers 2 V1Layer*, input 3 text*, input_dim 4 int*, force_backward 5 -, state 6 State, "
    "debug_info 7 -, input_shape 8 Shape*, layer 100 Layer*",
    "Shape": "dim 1 int*",
    "State": "phase 1 TRAIN|TEST, level 2 int, stage 3 text*",
    "Rule": "phase 1 TRAIN|TEST, min_level 2 int, max_level 3 int, stage 4 text*, not_stage 5 text*",
    "Param": "name 1 text, share_mode 2 -, lr_mult 3 -, decay_mult 4 -",
    "Filler": "type 1 text, value 2 float, min 3 -, max 4 -, mean 5 -, std 6 -, sparse 7 -, variance_norm 8 -",
    "Blob": "num 1 int, channels 2 int, height 3 int, width 4 int, data 5 floats*, diff 6 -, shape 7 Shape, "
    "double_data 8 doubles*, double_diff 9 -",
    "Layer": "name 1 text, type 2 text, bottom 3 text*, top 4 text*, loss_weight 5 -, param 6 Param*, blobs 7 Blob*, "
    "include 8 Rule*, exclude 9 Rule*, phase 10 -, propagate_down 11 -, transform_param 100 Transform, "
    "loss_param 101 -, accuracy_param 102 -, argmax_param 103 ArgMax, concat_param 104 Concat, "
    "contrastive_loss_param 105 -, convolution_param 106 Convolution, data_param 107 Data, dropout_param 108 Dropout, "
    "dummy_data_param 109 DummyData, eltwise_param 110 Eltwise, exp_param 111 Exp, hdf5_data_param 112 -, "
    "hdf5_output_param 113 -, hinge_loss_param 114 -, image_data_param 115 ImageData, infogain_loss_param 116 -, "
    "inner_product_param 117 InnerProduct, lrn_param 118 Lrn, memory_data_param 119 MemoryData, mvn_param 120 Mvn, "
    "pooling_param 121 Pooling, power_param 122 Power, relu_param 123 ReLU, sigmoid_param 124 -, "
    "softmax_param 125 Softmax, slice_param 126 Slice, tanh_param 127 -, threshold_param 128 Threshold, "
    "window_data_param 129 -, python_param 130 -, prelu_param 131 PReLU, spp_param 132 Spp, reshape_param 133 Reshape, "
    "log_param 134 Exp, flatten_param 135 Flatten, reduction_param 136 Reduction, embed_param 137 Embed, "
    "tile_param 138 Tile, batch_norm_param 139 BatchNorm, elu_param 140 Elu, bias_param 141 Bias, "
    "scale_param 142 Scale, input_param 143 Input, crop_param 144 Crop, parameter_param 145 Parameter, "
    "recurrent_param 146 Recurrent, swish_param 147 Swish, clip_param 148 Clip, annotated_data_param 200 -, "
    "multibox_loss_param 201 -, permute_param 202 Permute, prior_box_param 203 PriorBox, "
    "detection_output_param 204 DetectionOutput, detection_evaluate_param 205 -, norm_param 206 Normalize, "
    "video_data_param 207 -, roi_pooling_param 8266711 RoiPooling, bn_param 0 Bn, interp_param 0 Interp, "
    "upsample_param 0 Upsample, shuffle_channel_param 0 Shuffle, reorg_param 0 Reorg, mish_param 0 -, "
    "engine 0 -, quantization_param 0 -",
    "Transform": "scale 1 float, mirror 2 bool, crop_size 3 int, mean_file 4 text, mean_value 5 float*, "
    "force_color 6 -, force_gray 7 bool, crop_h 0 int, crop_w 0 int, resize_param 0 Resize, noise_param 0 -, "
    "distort_param 0 -, expand_param 0 -, emit_constraint 0 -",
    "Resize": "prob 1 -, resize_mode 2 -, height 3 int, width 4 int, interp_mode 8 -, height_scale 9 -, "
    "width_scale 10 -, pad_mode 5 -, pad_value 6 -",
    "Data": "source 1 -, scale 2 float, mean_file 3 text, batch_size 4 -, crop_size 5 int, mirror 6 bool, "
    "rand_skip 7 -, backend 8 -, force_encoded_color 9 -, prefetch 10 -, threads 11 -, cache 0 -, shuffle 0 -",
    "ImageData": "source 1 -, scale 2 float, mean_file 3 text, batch_size 4 -, crop_size 5 int, mirror 6 bool, "
    "rand_skip 7 -, shuffle 8 -, new_height 9 int, new_width 10 int, is_color 11 bool, root_folder 12 -, "
    "label_type 0 -",
    "MemoryData": "batch_size 1 int, channels 2 int, height 3 int, width 4 int",
    "DummyData": "data_filler 1 -, num 2 int*, channels 3 int*, height 4 int*, width 5 int*, shape 6 Shape*",
    "Input": "shape 1 Shape*",
    "Parameter": "shape 1 Shape",
    "ArgMax": "out_max_val 1 bool, top_k 2 int, axis 3 int",
    "BatchNorm": "use_global_stats 1 bool, moving_average_fraction 2 -, eps 3 float, scale_filler 5 -, "
    "bias_filler 6 -, scale_bias 0 -, engine 15 -",
    "Bias": "axis 1 int, num_axes 2 int, filler 3 Filler",
    "Bn": "slope_filler 1 Filler, bias_filler 2 Filler, momentum 3 -, eps 4 float, frozen 5 -, engine 6 -, "
    "bn_mode 0 LEARN|INFERENCE, scale_filler 0 Filler, shift_filler 0 Filler, var_eps 0 float",
    "Clip": "min 1 float, max 2 float",
    "Concat": "concat_dim 1 int, axis 2 int",
    "Convolution": "num_output 1 int, bias_term 2 bool, pad 3 int*, kernel_size 4 int*, group 5 int, stride 6 int*, "
    "weight_filler 7 Filler, bias_filler 8 Filler, pad_h 9 int, pad_w 10 int, kernel_h 11 int, kernel_w 12 int, "
    "stride_h 13 int, stride_w 14 int, engine 15 -, axis 16 int, force_nd_im2col 17 -, dilation 18 int*, "
    "cudnn_convolution_algo_seeker 19 -",
    "Crop": "axis 1 int, offset 2 int*",
    "DetectionOutput": "num_classes 1 int, share_location 2 bool, background_label_id 3 int, nms_param 4 Nms, "
    "save_output_param 5 -, code_type 6 CORNER=1|CENTER_SIZE|CORNER_SIZE, keep_top_k 7 int, "
    "variance_encoded_in_target 8 bool, confidence_threshold 9 float, visualize 10 -, visualize_threshold 11 -, "
    "save_file 12 -",
    "Dropout": "dropout_ratio 1 -, scale_train 0 bool",
    "Eltwise": "operation 1 PROD|SUM|MAX, coeff 2 float*, stable_prod_grad 3 -",
    "Elu": "alpha 1 float",
    "Embed": "num_output 1 int, input_dim 2 int, bias_term 3 bool, weight_filler 4 Filler, bias_filler 5 Filler",
    "Exp": "base 1 float, scale 2 float, shift 3 float",
    "Flatten": "axis 1 int, end_axis 2 int",
    "InnerProduct": "num_output 1 int, bias_term 2 bool, weight_filler 3 Filler, bias_filler 4 Filler, axis 5 int, "
    "transpose 6 bool, engine 0 -",
    "Interp": "height 1 int, width 2 int, zoom_factor 3 int, shrink_factor 4 int, pad_beg 5 int, pad_end 6 int",
    "Lrn": "local_size 1 int, alpha 2 float, beta 3 float, norm_region 4 ACROSS_CHANNELS|WITHIN_CHANNEL, k 5 float, "
    "engine 6 -",
    "Mvn": "normalize_variance 1 bool, across_channels 2 bool, eps 3 float",
    "Nms": "nms_threshold 1 float, top_k 2 int, eta 3 float",
    "Normalize": "across_spatial 1 bool, scale_filler 2 Filler, channel_shared 3 bool, eps 4 float",
    "Permute": "order 1 int*",
    "Pooling": "pool 1 MAX|AVE|STOCHASTIC, kernel_size 2 int, stride 3 int, pad 4 int, kernel_h 5 int, kernel_w 6 int, "
    "stride_h 7 int, stride_w 8 int, pad_h 9 int, pad_w 10 int, engine 11 -, global_pooling 12 bool, "
    "round_mode 13 CEIL|FLOOR, ceil_mode 0 bool",
    "Power": "power 1 float, scale 2 float, shift 3 float",
    "PReLU": "filler 1 Filler, channel_shared 2 bool",
    "PriorBox": "min_size 1 float*, max_size 2 float*, aspect_ratio 3 float*, flip 4 bool, clip 5 bool, "
    "variance 6 float*, img_size 7 int, img_h 8 int, img_w 9 int, step 10 float, step_h 11 float, step_w 12 float, "
    "offset 13 float",
    "Recurrent": "num_output 1 int, weight_filler 2 Filler, bias_filler 3 Filler, debug_info 4 -, expose_hidden 5 bool",
    "Reduction": "operation 1 SUM=1|ASUM|SUMSQ|MEAN, axis 2 int, coeff 3 float",
    "ReLU": "negative_slope 1 float, engine 2 -",
    "Reorg": "stride 0 int, reverse 0 bool",
    "Reshape": "shape 1 Shape, axis 2 int, num_axes 3 int",
    "RoiPooling": "pooled_h 1 int, pooled_w 2 int, spatial_scale 3 float",
    "Scale": "axis 1 int, num_axes 2 int, filler 3 Filler, bias_term 4 bool, bias_filler 5 Filler",
    "Shuffle": "group 1 int",
    "Slice": "slice_dim 1 int, slice_point 2 int*, axis 3 int",
    "Softmax": "engine 1 -, axis 2 int",
    "Spp": "pyramid_height 1 int, pool 2 MAX|AVE|STOCHASTIC, engine 6 -",
    "Swish": "beta 1 float",
    "Threshold": "threshold 1 float",
    "Tile": "axis 1 int, tiles 2 int",
    "Upsample": "scale 1 int, stride 0 int, scale_h 0 int, scale_w 0 int, upsample_h 0 int, upsample_w 0 int, "
    "pad_out_h 0 bool, pad_out_w 0 bool",
    "V1Layer": "layer 1 V0Layer, bottom 2 text*, top 3 text*, name 4 text, type 5 V1TYPE, blobs 6 Blob*, blobs_lr 7 -, "
    "weight_decay 8 -, concat_param 9 Concat, convolution_param 10 Convolution, data_param 11 Data, "
    "dropout_param 12 Dropout, hdf5_data_param 13 -, hdf5_output_param 14 -, image_data_param 15 ImageData, "
    "infogain_loss_param 16 -, inner_product_param 17 InnerProduct, lrn_param 18 Lrn, pooling_param 19 Pooling, "
    "window_data_param 20 -, power_param 21 Power, memory_data_param 22 MemoryData, argmax_param 23 ArgMax, "
    "eltwise_param 24 Eltwise, threshold_param 25 Threshold, dummy_data_param 26 DummyData, accuracy_param 27 -, "
    "hinge_loss_param 29 -, relu_param 30 ReLU, slice_param 31 Slice, include 32 Rule*, exclude 33 Rule*, "
    "mvn_param 34 Mvn, loss_weight 35 -, transform_param 36 Transform, tanh_param 37 -, sigmoid_param 38 -, "
    "softmax_param 39 Softmax, contrastive_loss_param 40 -, exp_param 41 Exp, loss_param 42 -, param 1001 text*, "
    "blob_share_mode 1002 -, prelu_param 0 PReLU, reshape_param 0 Reshape, batch_norm_param 0 BatchNorm, "
    "scale_param 0 Scale",
    "V0Layer": "name 1 text, type 2 text, num_output 3 int, biasterm 4 bool, weight_filler 5 Filler, "
    "bias_filler 6 Filler, pad 7 int, kernelsize 8 int, group 9 int, stride 10 int, pool 11 MAX|AVE|STOCHASTIC, "
    "dropout_ratio 12 -, local_size 13 int, alpha 14 float, beta 15 float, source 16 -, scale 17 float, "
    "meanfile 18 text, batchsize 19 -, cropsize 20 int, mirror 21 bool, k 22 float, blobs 50 Blob*, "
    "blobs_lr 51 -, weight_decay 52 -, rand_skip 53 -, det_fg_threshold 54 -, det_bg_threshold 55 -, "
    "det_fg_fraction 56 -, det_context_pad 58 -, det_crop_mode 59 -, "
    "new_num 60 int, new_channels 61 int, new_height 62 int, new_width 63 int, shuffle_images 64 -, concat_dim 65 int, "
    "hdf5_output_param 1001 -",
}

V1TYPE = (
    "NONE|ACCURACY|BNLL|CONCAT|CONVOLUTION|DATA|DROPOUT|EUCLIDEAN_LOSS|FLATTEN|HDF5_DATA|HDF5_OUTPUT|IM2COL|IMAGE_DATA|"
    "INFOGAIN_LOSS|INNER_PRODUCT|LRN|MULTINOMIAL_LOGISTIC_LOSS|POOLING|RELU|SIGMOID|SOFTMAX|SOFTMAX_LOSS|SPLIT|TANH|"
    "WINDOW_DATA|ELTWISE|POWER|SIGMOID_CROSS_ENTROPY_LOSS|HINGE_LOSS|MEMORY_DATA|ARGMAX|THRESHOLD|DUMMY_DATA|SLICE|MVN|"
    "ABSVAL|SILENCE|CONTRASTIVE_LOSS|EXP|DECONVOLUTION|PRELU=100|RESHAPE|BATCH_NORM|SCALE"
)
"""Types of layers before names took their place; those from 100 on are of forks, in text only."""

IGNORED = "-"
LARGEST_INT = (1 << 31) - 1
"""Whole numbers that mean anything at inference are below."""

PLAIN = ("int", "float", "bool", "text", "floats", "doubles")
ENTRY = re.compile(r"(\w+) (\d+) ([\w|=-]+)(\*?)")


@dataclass(frozen=True)
class Field:
    """One field: its name, its kind ("word" for one of `words`), and whether there may be several."""

    name: str
    number: int
    kind: str
    many: bool
    words: dict[int, str]


@cache
def fields(message: str) -> dict[str, Field]:
    """The fields of a message by name."""
    found = {}
    for entry in MESSAGES[message].split(", "):
        match = ENTRY.fullmatch(entry)
        assert match, entry
        name, number, kind, many = match.groups()
        kind = V1TYPE if kind == "V1TYPE" else kind
        words = _words(kind) if "|" in kind else {}
        found[name] = Field(name, int(number), "word" if words else kind, bool(many), words)
    return found


@cache
def numbered(message: str) -> dict[int, Field]:
    """The fields of a message by the number they have in binary files."""
    return {f.number: f for f in fields(message).values() if f.number}


def _words(kind: str) -> dict[int, str]:
    found, next_ = {}, 0
    for part in kind.split("|"):
        word, _, number = part.partition("=")
        next_ = int(number) if number else next_
        found[next_] = word
        next_ += 1
    return found

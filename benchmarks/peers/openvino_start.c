/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenVINO alone, from C: reads a graph of TIM-Net's input, compiles it as libzoo does, and runs it once on zeros.
 *   openvino_start GRAPH.xml WEIGHTS.bin
 */
#include <openvino/c/openvino.h>

int main(int argc, char** argv) {
  ov_core_t* core;
  ov_model_t* model;
  ov_compiled_model_t* compiled;
  ov_infer_request_t* request;
  ov_shape_t shape;
  ov_tensor_t* tensor;
  const int64_t dims[3] = {1, 87, 39};
  if (argc != 3 || ov_core_create(&core) != OK || ov_core_read_model(core, argv[1], argv[2], &model) != OK) return 1;
  if (ov_core_compile_model(core, model, "CPU", 8, &compiled, "PERFORMANCE_HINT", "LATENCY", "NUM_STREAMS", "1", "INFERENCE_NUM_THREADS", "1",
                            "INFERENCE_PRECISION_HINT", "f32") != OK) return 2;
  if (ov_compiled_model_create_infer_request(compiled, &request) != OK || ov_shape_create(3, dims, &shape) != OK) return 3;
  if (ov_tensor_create(F32, shape, &tensor) != OK || ov_infer_request_set_input_tensor(request, tensor) != OK) return 4;
  return ov_infer_request_infer(request) == OK ? 0 : 5;
}

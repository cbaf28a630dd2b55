// SPDX-License-Identifier: Apache-2.0
// Stands in for the CUDA toolkit's header of this name, of which TensorRT's headers use two types: libzoo is built without a toolkit.
#ifndef ZOO_RUNTIME_CUDA_CUDA_RUNTIME_API_H_
#define ZOO_RUNTIME_CUDA_CUDA_RUNTIME_API_H_

struct CUstream_st;
struct CUevent_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;

#endif  // ZOO_RUNTIME_CUDA_CUDA_RUNTIME_API_H_

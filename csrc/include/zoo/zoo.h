/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device runtime of affect-zoo in plain C: from a bundle and raw samples or text to labels.
 *
 *   zoo_model* model;  zoo_session* session;  zoo_input input;  zoo_result result;
 *   zoo_open("tim-net.zoo", NULL, &model);
 *   zoo_session_open(model, &session);
 *   ... zoo_run(session, &input, 1, &result) ...
 *
 * Rules. Every function but those that free returns a zoo_status, and after one that is not ZOO_OK or ZOO_NO_RESULT
 * zoo_last_error() says what is wrong, where, and what to do. Nothing is printed, thrown, or kept in global variables. A model may be
 * used by any number of threads; a session or stream by one at a time. Sessions and streams keep their model alive, so handles may
 * be closed in any order. Buffers belong to the caller. NULL where an object is needed is ZOO_USAGE_ERROR, never a crash.
 */
#ifndef ZOO_ZOO_H_
#define ZOO_ZOO_H_

#include <stddef.h>
#include <stdint.h>

#if defined(ZOO_BUILDING) && defined(__GNUC__)
#define ZOO_API __attribute__((visibility("default")))
#else
#define ZOO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a declaration below changes; zoo_abi_version() is that of the library. */
#define ZOO_ABI_VERSION 1

/* The numbers of failures are the exit codes of the command `zoo`. */
typedef enum zoo_status {
  ZOO_OK = 0,
  ZOO_FAILED = 1,               /* a fault of this library */
  ZOO_USAGE_ERROR = 2,          /* an argument that no call takes: NULL, another ABI version, a name that is unknown */
  ZOO_INPUT_ERROR = 3,          /* input that cannot be processed: unreadable, wrong rate, shape or type, NaN */
  ZOO_BUNDLE_ERROR = 4,         /* a bundle that is damaged, unsafe, of another schema, or built for something else */
  ZOO_PROVIDER_UNAVAILABLE = 5, /* an engine or device that is not built in, not installed or not there */
  ZOO_CHECK_FAILED = 6,         /* a selftest that did not pass */
  ZOO_NO_RESULT = 7,            /* zoo_stream_pop: no window is full yet; not a failure */
  ZOO_OUT_OF_MEMORY = 8,
  ZOO_BUFFER_TOO_SMALL = 9,     /* the size that is needed was written */
  ZOO_UNSUPPORTED = 10          /* a bundle that is whole, but of a kind that this library does not run; the Python runtime does */
} zoo_status;

typedef struct zoo_model zoo_model;     /* an opened, verified bundle with its engine */
typedef struct zoo_session zoo_session; /* one thread's scratch memory and the results of its last run */
typedef struct zoo_stream zoo_stream;   /* a session over a live signal */

ZOO_API uint32_t zoo_abi_version(void);

/* Why the calling thread's last failed call failed; UTF-8, valid until its next one. Never NULL. */
ZOO_API const char* zoo_last_error(void);

/* "input error" for ZOO_INPUT_ERROR, and so on. */
ZOO_API const char* zoo_status_name(int32_t status);

/* Options of zoo_open. Fill with zoo_options_init, then change what you need. */
typedef struct zoo_options {
  uint32_t abi_version;   /* ZOO_ABI_VERSION */
  int32_t threads;        /* of the engine; 0: what the bundle says */
  int32_t batch;          /* most inputs in one call of the engine; 0: what the bundle says */
  const char* engine_library; /* file or folder to load the engine from. NULL: the folders in ZOO_ENGINE_PATH, then the system's */
  const char* isa;        /* instruction set of the kernels, "avx2" say; NULL: ZOO_ISA, else the fastest that the CPU has */
} zoo_options;
ZOO_API void zoo_options_init(zoo_options* options);

/*
 * Opens a bundle: a directory, or a .zoo file, which is mapped into memory and must not change while it is open. All of it is verified
 * before an engine reads any. options: NULL for defaults. *model: NULL on failure.
 */
ZOO_API zoo_status zoo_open(const char* path, const zoo_options* options, zoo_model** model);
/* The same for the bytes of a .zoo file, which must stay as they are until the model and all its sessions are closed. */
ZOO_API zoo_status zoo_open_memory(const void* bytes, size_t size, const zoo_options* options, zoo_model** model);
ZOO_API void zoo_close(zoo_model* model); /* NULL is fine, as for all that free */

/*
 * Text out. They write a terminated string into buffer and its size with the end into *size (which may be NULL). A buffer that is too
 * small, or NULL with capacity 0, gives ZOO_BUFFER_TOO_SMALL; nothing is written but *size.
 */
/* What the model takes and gives, and its whole manifest, as JSON: name, input, heads (labels), outputs, engine, window_seconds ... */
ZOO_API zoo_status zoo_describe(const zoo_model* model, char* buffer, size_t capacity, size_t* size);
/* Engines that this library knows, as JSON: a list of {kind, built, version, devices, problem}. options: as of zoo_open. */
ZOO_API zoo_status zoo_engines(const zoo_options* options, char* buffer, size_t capacity, size_t* size);

/*
 * Heads: the answers that a model gives. Most give one; its name is "". A result's values are those of all heads, one after another,
 * one for each label (or, of an embedding, for each dimension; of a curve, for each step: where one head gives a curve, all do, of as
 * many steps).
 */
typedef enum zoo_decode {
  ZOO_SOFTMAX = 0,    /* one label of several: values are probabilities that add up to one */
  ZOO_SIGMOID = 1,    /* any number of labels: values are probabilities */
  ZOO_REGRESSION = 2, /* named values */
  ZOO_EMBEDDING = 3,  /* a vector without labels */
  ZOO_CURVE = 4       /* a value for each step along an input of any length; zoo_describe says how long steps are */
} zoo_decode;
ZOO_API size_t zoo_head_count(const zoo_model* model); /* 0 for NULL */
/* name, decode (a zoo_decode), labels (how many): each may be NULL. The name lives as long as the model. */
ZOO_API zoo_status zoo_head(const zoo_model* model, size_t head, const char** name, int32_t* decode, size_t* labels);
ZOO_API const char* zoo_label(const zoo_model* model, size_t head, size_t label); /* NULL where there is none */
/* Of models that take EEG: name of the electrode of a column ("AF3"); NULL where there is none. */
ZOO_API const char* zoo_channel(const zoo_model* model, size_t column);

ZOO_API zoo_status zoo_session_open(const zoo_model* model, zoo_session** session);
ZOO_API void zoo_session_close(zoo_session* session);

typedef enum zoo_dtype { ZOO_F32 = 0, ZOO_F64 = 1, ZOO_I16 = 2, ZOO_I32 = 3, ZOO_U8 = 4, ZOO_I64 = 5 } zoo_dtype;

typedef enum zoo_input_kind {
  ZOO_ARRAY = 0,   /* samples (n) or (n, channels), float in [-1, 1] or integers, of any rate: pipelines resample; EEG (n, channels) in
                      microvolts, columns as zoo_channel names them, at the model's rate: the answer is that of the last window; an
                      image (height, width, channels) or frames (n, height, width, channels) of ZOO_U8 */
  ZOO_TEXT = 1,    /* data: UTF-8, shape[0] bytes */
  ZOO_FILE = 2,    /* data: path of a WAV or FLAC file, terminated */
  ZOO_FEATURES = 3, /* what the pipeline would give, without the batch dimension: ZOO_F32, or ZOO_I64 for models of text */
  ZOO_FILM = 4     /* data: a zoo_film, for models that give curves; where they look at one of pictures and sound, that alone will do */
} zoo_input_kind;

typedef struct zoo_input {
  int32_t kind;      /* zoo_input_kind */
  int32_t dtype;     /* zoo_dtype, of arrays and features */
  int32_t rank;      /* 1 to 4, of arrays and features */
  int64_t shape[4];
  double rate;       /* Hz of audio and EEG; frames a second */
  const void* data;  /* row-major; read during the call only */
} zoo_input;

/* The parts of a film; NULL where there is none. */
typedef struct zoo_film {
  const zoo_input* pictures; /* ZOO_ARRAY of frames at the model's rate */
  const zoo_input* sound;    /* ZOO_ARRAY of samples, or ZOO_FILE */
} zoo_film;

/* Milliseconds. In a batch each input carries its share of the engine's time. */
typedef struct zoo_timing {
  double decode_input; /* reading and decoding a file */
  double preprocess;   /* the pipeline */
  double engine;
  double decode;       /* engine outputs to labels */
  double total;
} zoo_timing;

/* One result. The caller sets buffers (NULL where not wanted) and capacities; the call fills them and the rest. */
typedef struct zoo_result {
  float* values;             /* of all heads: probabilities, values in their range, or an embedding */
  size_t values_capacity;
  size_t values_count;
  uint8_t* given;            /* one for each value: 1 where its label is given (the best one; all over their thresholds) */
  size_t given_capacity;
  int32_t* best;             /* one for each head: index of the best label of a softmax, else -1 */
  size_t best_capacity;
  size_t best_count;
  float* attention;          /* weight of each token of a text, for models that give it; they add up to one */
  size_t attention_capacity;
  size_t attention_count;
  double start, end;         /* seconds of the stream that this result covers; 0 outside streams */
  zoo_timing timing;
} zoo_result;

/*
 * Predicts count inputs. results: count of them, or NULL (read them with the functions below). Inputs whose features have one
 * shape go to the engine together, up to the model's batch. Where one fails, no result is valid, and the message names its index.
 */
ZOO_API zoo_status zoo_run(zoo_session* session, const zoo_input* inputs, size_t count, zoo_result* results);

/* Result number item of the last run again; without buffers it says how large they must be. */
ZOO_API zoo_status zoo_result_read(const zoo_session* session, size_t item, zoo_result* result);

/* The same, or that the last window popped, as JSON: label, labels, scores, values, attention, heads, timing. */
ZOO_API zoo_status zoo_result_json(const zoo_session* session, size_t item, char* buffer, size_t capacity, size_t* size);

/* An engine output of the last run as it is, without the batch dimension. shape: 8 numbers. Each pointer may be NULL. */
typedef struct zoo_tensor {
  int32_t dtype; /* zoo_dtype */
  int32_t rank;
  int64_t shape[8];
  size_t bytes;
} zoo_tensor;
ZOO_API zoo_status zoo_output(const zoo_session* session, size_t item, const char* name, void* buffer, size_t capacity, zoo_tensor* tensor);

/*
 * Runs the bundle's golden inputs and compares every engine output with the reference's. worst, tolerance: largest absolute difference
 * and what is allowed; each may be NULL. ZOO_CHECK_FAILED where it is more.
 */
ZOO_API zoo_status zoo_selftest(zoo_session* session, double* worst, double* tolerance);

/*
 * Streams: overlapping windows of a live signal, one every hop seconds, each as long as the model takes; of pictures, one every hop
 * seconds. Without smoothing each result equals that of zoo_run on the window or picture, whatever the sizes of the chunks; of EEG, whose
 * filters run on over the whole stream, that of zoo_run on all up to the window's end. Memory is one window; after the first windows nothing
 * is allocated but what the engine itself does.
 *
 *   for (; n > 0; p += taken * channels, n -= taken) {
 *     zoo_stream_push(stream, p, n, &taken);
 *     while (zoo_stream_pop(stream, &result) == ZOO_OK) use(&result);
 *   }
 */
typedef struct zoo_stream_options {
  uint32_t abi_version; /* ZOO_ABI_VERSION */
  int32_t dtype;        /* zoo_dtype of the samples; ZOO_F32; of pictures ZOO_U8 */
  int32_t channels;     /* 1 */
  double rate;          /* Hz; 0: what the model was made for, which EEG must have; pictures a second, of which a model fixes none */
  double hop;           /* seconds between windows; 0.5; of EEG that of the model, for which 0 stands */
  double smoothing;     /* seconds: time constant of an exponential mean of the values (not of embeddings) over windows, from which the
                           labels are then taken; 0: each window for itself */
  int32_t height, width; /* of pictures; else 0 */
} zoo_stream_options;
ZOO_API void zoo_stream_options_init(zoo_stream_options* options);
/* options: NULL for defaults. */
ZOO_API zoo_status zoo_stream_open(const zoo_model* model, const zoo_stream_options* options, zoo_stream** stream);
/* Takes samples (of all channels), or whole pictures, up to the end of the next window: *taken of them. 0 while a full window waits to be popped.
   EEG with a value that is not finite is refused, and none of it taken; go on with samples that are. */
ZOO_API zoo_status zoo_stream_push(zoo_stream* stream, const void* samples, size_t count, size_t* taken);
/* The signal has ended. Sound shorter than a window gives one result, EEG an error. */
ZOO_API zoo_status zoo_stream_end(zoo_stream* stream);
/* The result of a full window, or ZOO_NO_RESULT. result may be NULL. A window that fails is passed over. */
ZOO_API zoo_status zoo_stream_pop(zoo_stream* stream, zoo_result* result);
/* What the stream has cost so far. */
typedef struct zoo_load {
  size_t windows;       /* results given */
  double latency_last, latency_mean, latency_max; /* milliseconds from the push that completed a window to its result */
  double signal;        /* seconds of signal taken */
  double busy;          /* seconds spent in push and pop */
  double cpu;           /* seconds of processor time that the whole process took meanwhile */
  double cpu_share;     /* cpu / signal: how much of one core a live signal takes */
} zoo_load;
ZOO_API zoo_status zoo_stream_load(const zoo_stream* stream, zoo_load* load);
/* The session that ran the last window, for the functions that read results; it belongs to the stream. */
ZOO_API const zoo_session* zoo_stream_session(const zoo_stream* stream);
ZOO_API void zoo_stream_close(zoo_stream* stream);

#ifdef __cplusplus
}
#endif

#endif /* ZOO_ZOO_H_ */

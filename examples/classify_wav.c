/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Classifies audio files with a bundle: from the file to a label, in C. Without files it runs the bundle's own golden inputs.
 *   classify_wav BUNDLE [FILE ...]
 * Build:  cc classify_wav.c $(pkg-config --cflags --libs zoo) -o classify_wav
 * The engine's library is found in the folders of ZOO_ENGINE_PATH, or where the system looks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zoo/zoo.h>

static int fail(zoo_status status) {
  fprintf(stderr, "%s: %s\n", zoo_status_name(status), zoo_last_error());
  return (int)status;
}

/* Prints a file's label, or its values, and the time from samples to label. */
static zoo_status classify(const zoo_model* model, zoo_session* session, const char* path) {
  zoo_input input;
  zoo_result result;
  zoo_status status;
  size_t head, at = 0, i, labels;
  memset(&input, 0, sizeof input);
  memset(&result, 0, sizeof result);
  input.kind = ZOO_FILE;
  input.data = path;
  status = zoo_run(session, &input, 1, &result);
  if (status != ZOO_OK) return status;
  result.values_capacity = result.values_count;
  result.best_capacity = result.best_count;
  result.values = malloc(result.values_count * sizeof *result.values + 1);
  result.best = malloc(result.best_count * sizeof *result.best + 1);
  if (result.values == NULL || result.best == NULL) {
    status = ZOO_OUT_OF_MEMORY;
  } else {
    status = zoo_result_read(session, 0, &result);
  }
  for (head = 0; status == ZOO_OK && head < zoo_head_count(model); ++head) {
    const char* name;
    zoo_head(model, head, &name, NULL, &labels);
    printf("%s\t", path);
    if (*name != '\0') printf("%s\t", name);
    if (result.best[head] >= 0) {
      printf("%s %.3f", zoo_label(model, head, (size_t)result.best[head]), result.values[at + (size_t)result.best[head]]);
    } else {
      for (i = 0; i < labels; ++i) printf("%s%s %.3f", i > 0 ? "  " : "", zoo_label(model, head, i), result.values[at + i]);
    }
    printf("\t%.1f ms\n", result.timing.total);
    at += labels;
  }
  free(result.values);
  free(result.best);
  return status;
}

/* Runs the bundle's golden inputs and prints how far their outputs are from the reference's. */
static zoo_status selftest(zoo_session* session) {
  double worst = 0, tolerance = 0;
  const zoo_status status = zoo_selftest(session, &worst, &tolerance);
  if (status == ZOO_OK) printf("selftest passed: largest difference %.3g, allowed %.3g\n", worst, tolerance);
  return status;
}

int main(int argc, char** argv) {
  zoo_model* model = NULL;
  zoo_session* session = NULL;
  zoo_status status;
  int i;
  if (argc < 2) {
    fprintf(stderr, "usage: classify_wav BUNDLE [FILE ...]\n");
    return 2;
  }
  status = zoo_open(argv[1], NULL, &model);
  if (status == ZOO_OK) status = zoo_session_open(model, &session);
  if (status == ZOO_OK && argc == 2) status = selftest(session);
  for (i = 2; status == ZOO_OK && i < argc; ++i) status = classify(model, session, argv[i]);
  if (status != ZOO_OK) fail(status);
  zoo_session_close(session);
  zoo_close(model);
  return (int)status;
}

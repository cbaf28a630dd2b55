/* SPDX-License-Identifier: Apache-2.0 */
/* zoo.h is C89, and a program of C links. */
#include "zoo/zoo.h"

#include <stdio.h>
#include <string.h>

int main(void) {
  zoo_options options;
  zoo_model* model = NULL;
  zoo_options_init(&options);
  if (zoo_abi_version() != ZOO_ABI_VERSION || options.abi_version != ZOO_ABI_VERSION) return 1;
  if (zoo_open("/nowhere", &options, &model) != ZOO_BUNDLE_ERROR || model != NULL) return 2;
  if (strstr(zoo_last_error(), "/nowhere") == NULL) return 3;
  puts("1 passed, 0 failed");
  return 0;
}

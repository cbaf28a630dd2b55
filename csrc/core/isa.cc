// SPDX-License-Identifier: Apache-2.0
#include "zoo/isa.h"

#include <atomic>
#include <cstdlib>

#include "core/kernels.h"

namespace zoo {

namespace target_baseline { extern const Kernels kKernels; }
#if defined(ZOO_HAVE_X86_TARGETS)
namespace target_avx2 { extern const Kernels kKernels; }
namespace target_avx512 { extern const Kernels kKernels; }
#endif

namespace {

struct Target {
  const Kernels* kernels;
  bool (*supported)();
};

bool Always() { return true; }
#if defined(ZOO_HAVE_X86_TARGETS)
// __builtin_cpu_supports also checks with xgetbv that the operating system saves the wide registers.
bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const Target kTargets[] = {
    {&target_baseline::kKernels, Always},
#if defined(ZOO_HAVE_X86_TARGETS)
    {&target_avx2::kKernels, HasAvx2},
    {&target_avx512::kKernels, HasAvx512},
#endif
};

std::atomic<const Kernels*> g_default{nullptr};

std::string Join(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& n : names) out += (out.empty() ? "" : ", ") + n;
  return out;
}

Result<const Kernels*> Find(const std::string& name, const char* origin) {
  for (const Target& t : kTargets) {
    if (name != t.kernels->name) continue;
    if (t.supported()) return t.kernels;
    return Status(StatusCode::kUnsupportedIsa, std::string(origin) + "=" + name +
                                                   ": this CPU cannot run it; it can run: " + Join(SupportedIsas()));
  }
  return Status(StatusCode::kUnsupportedIsa,
                std::string(origin) + "=" + name + ": unknown instruction set; this CPU can run: " + Join(SupportedIsas()));
}

Result<const Kernels*> InitialDefault() {
  if (const char* env = std::getenv("ZOO_ISA"); env != nullptr && env[0] != '\0') return Find(env, "ZOO_ISA");
  const Kernels* best = kTargets[0].kernels;
  for (const Target& t : kTargets) {
    if (t.supported()) best = t.kernels;
  }
  return best;
}

}  // namespace

std::vector<std::string> SupportedIsas() {
  std::vector<std::string> names;
  for (const Target& t : kTargets) {
    if (t.supported()) names.emplace_back(t.kernels->name);
  }
  return names;
}

Result<const Kernels*> SelectKernels(const std::string& isa) {
  if (!isa.empty()) return Find(isa, "isa");
  if (const Kernels* k = g_default.load(std::memory_order_acquire)) return k;
  Result<const Kernels*> chosen = InitialDefault();
  if (chosen.ok()) g_default.store(chosen.value(), std::memory_order_release);
  return chosen;
}

Status SetDefaultIsa(const std::string& isa) {
  Result<const Kernels*> chosen = isa.empty() ? InitialDefault() : Find(isa, "isa");
  if (chosen.ok()) g_default.store(chosen.value(), std::memory_order_release);
  return chosen.status();
}

Result<std::string> DefaultIsa() {
  Result<const Kernels*> k = SelectKernels();
  if (!k.ok()) return k.status();
  return std::string(k.value()->name);
}

}  // namespace zoo

// SPDX-License-Identifier: Apache-2.0
// Coefficients of filters. Butterworth: analogue prototype, transformed to the band and to the z plane as poles and zeros,
// which are then grouped in sections; in the order of SciPy, whose coefficients these are to be.
#include <algorithm>
#include <cmath>
#include <complex>
#include <new>

#include "zoo/eeg.h"

namespace zoo {
namespace {

using Complex = std::complex<double>;
constexpr double kPi = 3.14159265358979323846;
constexpr int32_t kMaxOrder = 32;
constexpr int64_t kMaxTaps = 1000001;

const char* KindName(FilterKind k) {
  static const char* const names[] = {"lowpass", "highpass", "bandpass", "bandstop", "notch"};
  return names[static_cast<int32_t>(k)];
}

bool IsBand(FilterKind k) { return k == FilterKind::kBandpass || k == FilterKind::kBandstop; }

struct Roots {
  std::vector<Complex> zeros, poles;
  double gain = 1;
};

Complex ProductOfDifferences(double a, const std::vector<Complex>& roots) {
  Complex p = 1;
  for (const Complex& r : roots) p *= a - r;
  return p;
}

// Poles of the low-pass prototype with its edge at 1 rad/s.
std::vector<Complex> Prototype(int32_t order) {
  std::vector<Complex> poles;
  for (int32_t m = -order + 1; m < order; m += 2) poles.push_back(-std::exp(Complex(0, kPi * m / (2.0 * order))));
  return poles;
}

Roots Analogue(const FilterOptions& o) {
  // edges warped so that the bilinear transform (at 2 samples a second) puts them where they belong
  double w[2] = {0, 0};
  for (size_t i = 0; i < o.freqs.size(); ++i) w[i] = 4.0 * std::tan(kPi * (2.0 * o.freqs[i] / o.rate) / 2.0);
  const std::vector<Complex> low = Prototype(o.order);
  const size_t n = low.size();
  Roots r;
  switch (o.kind) {
    case FilterKind::kLowpass:
      for (const Complex& p : low) r.poles.push_back(p * w[0]);
      r.gain = std::pow(w[0], o.order);
      break;
    case FilterKind::kHighpass:
      for (const Complex& p : low) r.poles.push_back(w[0] / p);
      r.zeros.assign(n, 0.0);
      r.gain = (1.0 / ProductOfDifferences(0, low)).real();
      break;
    default: {
      const bool pass = o.kind == FilterKind::kBandpass;
      const double half = (w[1] - w[0]) / 2.0, centre = std::sqrt(w[0] * w[1]);
      for (const double sign : {1.0, -1.0}) {
        for (const Complex& p : low) {
          const Complex q = pass ? p * half : half / p;
          r.poles.push_back(q + sign * std::sqrt(q * q - centre * centre));
        }
        r.zeros.insert(r.zeros.end(), pass ? 0 : n, Complex(0, sign * centre));
      }
      if (pass) {
        r.zeros.assign(n, 0.0);
        r.gain = std::pow(2.0 * half, o.order);
      } else {
        r.gain = (1.0 / ProductOfDifferences(0, low)).real();
      }
    }
  }
  return r;
}

Roots Bilinear(const Roots& analogue) {
  Roots r;
  r.gain = analogue.gain * (ProductOfDifferences(4.0, analogue.zeros) / ProductOfDifferences(4.0, analogue.poles)).real();
  for (const Complex& z : analogue.zeros) r.zeros.push_back((4.0 + z) / (4.0 - z));
  for (const Complex& p : analogue.poles) r.poles.push_back((4.0 + p) / (4.0 - p));
  r.zeros.resize(r.poles.size(), -1.0);
  return r;
}

// One of each conjugate pair (the mean of both, above the real axis), then the real ones; each sorted by real part.
std::vector<Complex> Pairs(std::vector<Complex> roots) {
  const double tolerance = 100 * 2.220446049250313e-16;
  const auto order = [](const Complex& a, const Complex& b) {
    return a.real() != b.real() ? a.real() < b.real() : std::abs(a.imag()) < std::abs(b.imag());
  };
  std::stable_sort(roots.begin(), roots.end(), order);
  std::vector<Complex> upper, lower, real;
  for (const Complex& r : roots) {
    if (std::abs(r.imag()) <= tolerance * std::abs(r)) {
      real.push_back(r.real());
    } else {
      (r.imag() > 0 ? upper : lower).push_back(r);
    }
  }
  // among (nearly) equal real parts the imaginary part decides, so that the halves correspond
  for (size_t i = 0; i < upper.size();) {
    size_t j = i + 1;
    while (j < upper.size() && upper[j].real() - upper[j - 1].real() <= tolerance * std::abs(upper[j - 1])) ++j;
    const auto by_imag = [](const Complex& a, const Complex& b) { return std::abs(a.imag()) < std::abs(b.imag()); };
    std::stable_sort(upper.begin() + static_cast<int64_t>(i), upper.begin() + static_cast<int64_t>(j), by_imag);
    if (j <= lower.size()) std::stable_sort(lower.begin() + static_cast<int64_t>(i), lower.begin() + static_cast<int64_t>(j), by_imag);
    i = j;
  }
  for (size_t i = 0; i < upper.size() && i < lower.size(); ++i) upper[i] = (upper[i] + std::conj(lower[i])) / 2.0;
  upper.insert(upper.end(), real.begin(), real.end());
  return upper;
}

bool IsReal(const Complex& c) { return c.imag() == 0; }

int64_t CountReal(const std::vector<Complex>& v) { return std::count_if(v.begin(), v.end(), IsReal); }

Complex TakeAt(std::vector<Complex>* v, size_t i) {
  const Complex c = (*v)[i];
  v->erase(v->begin() + static_cast<int64_t>(i));
  return c;
}

// The pole nearest to the unit circle.
Complex TakeWorst(std::vector<Complex>* poles, bool real_only) {
  size_t best = poles->size();
  double distance = 0;
  for (size_t i = 0; i < poles->size(); ++i) {
    if (real_only && !IsReal((*poles)[i])) continue;
    const double d = std::abs(1.0 - std::abs((*poles)[i]));
    if (best == poles->size() || d < distance) best = i, distance = d;
  }
  return TakeAt(poles, best);
}

enum class Which { kAny, kReal, kComplex };
Complex TakeNearest(std::vector<Complex>* zeros, const Complex& to, Which which) {
  size_t best = zeros->size();
  double distance = 0;
  for (size_t i = 0; i < zeros->size(); ++i) {
    if (which != Which::kAny && IsReal((*zeros)[i]) != (which == Which::kReal)) continue;
    const double d = std::abs((*zeros)[i] - to);
    if (best == zeros->size() || d < distance) best = i, distance = d;
  }
  return TakeAt(zeros, best);
}

// Groups zeros with the nearest poles; the section whose poles lie nearest to the unit circle comes last.
std::vector<double> GroupSections(const Roots& r) {
  std::vector<Complex> zeros = r.zeros, poles = r.poles;
  if (poles.size() % 2 == 1) poles.push_back(0.0), zeros.push_back(0.0);
  const size_t sections = poles.size() / 2;
  zeros = Pairs(zeros);
  poles = Pairs(poles);
  std::vector<double> sos(6 * sections);
  for (size_t s = sections; s-- > 0;) {
    const Complex p1 = TakeWorst(&poles, false);
    const bool last_pair = !IsReal(p1) && poles.size() + 1 == zeros.size() && CountReal(poles) == 1 && CountReal(zeros) == 1;
    const Complex p2 = IsReal(p1) ? TakeWorst(&poles, true) : std::conj(p1);
    // a lone real pole and a lone real zero must stay for each other
    const Complex z1 = TakeNearest(&zeros, p1, last_pair ? Which::kComplex : Which::kAny);
    const Complex z2 = IsReal(z1) ? TakeNearest(&zeros, p1, Which::kReal) : std::conj(z1);
    double* c = &sos[6 * s];
    c[0] = c[3] = 1.0;
    c[1] = (-z1 - z2).real();
    c[2] = (z1 * z2).real();
    c[4] = (-p1 - p2).real();
    c[5] = (p1 * p2).real();
  }
  for (int i = 0; i < 3; ++i) sos[static_cast<size_t>(i)] *= r.gain;
  return sos;
}

std::vector<double> Notch(const FilterOptions& o) {
  const double w = kPi * (2.0 * o.freqs[0] / o.rate), beta = std::tan(w / o.q / 2.0), gain = 1.0 / (1.0 + beta);
  const double c = -2.0 * std::cos(w);
  return {gain, gain * c, gain, 1.0, gain * c, 2.0 * gain - 1.0};
}

double WindowAt(FirWindow window, int64_t i, int64_t n) {
  if (n == 1) return 1;
  const double a = 2 * kPi * static_cast<double>(i) / static_cast<double>(n - 1);
  switch (window) {
    case FirWindow::kHamming: return 0.54 - 0.46 * std::cos(a);
    case FirWindow::kHann: return 0.5 - 0.5 * std::cos(a);
    case FirWindow::kBlackman: return 0.42 - 0.5 * std::cos(a) + 0.08 * std::cos(2 * a);
  }
  return 1;
}

double Sinc(double x) { return x == 0 ? 1.0 : std::sin(kPi * x) / (kPi * x); }

// Windowed sinc with pass bands [edges[0], edges[1]], [edges[2], edges[3]] in units of rate / 2; unit gain at the start of
// the first when it is 0, at its end when that is 1, else in its middle.
std::vector<double> WindowedSinc(int64_t n, const std::vector<double>& edges, FirWindow window) {
  std::vector<double> h(static_cast<size_t>(n));
  const double middle = 0.5 * static_cast<double>(n - 1);
  const double at = edges[0] == 0 ? 0 : edges[1] == 1 ? 1 : 0.5 * (edges[0] + edges[1]);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double m = static_cast<double>(i) - middle;
    double v = 0;
    for (size_t b = 0; b < edges.size(); b += 2) v += edges[b + 1] * Sinc(edges[b + 1] * m) - edges[b] * Sinc(edges[b] * m);
    v *= WindowAt(window, i, n);
    h[static_cast<size_t>(i)] = v;
    sum += v * std::cos(kPi * m * at);
  }
  for (double& v : h) v /= sum;
  return h;
}

struct Transition {  // Hz
  double from, to;
  bool up;
};

// MNE's rule: each transition begins at the edge that was asked for and leads out of the pass band.
std::vector<Transition> Transitions(const FilterOptions& o) {
  const double nyquist = o.rate / 2;
  const auto lower = [](double f) { return std::min(std::max(0.25 * f, 2.0), f); };
  const auto upper = [nyquist](double f) { return std::min(std::max(0.25 * f, 2.0), nyquist - f); };
  const double a = o.freqs[0], b = o.freqs.back();
  switch (o.kind) {
    case FilterKind::kLowpass: return {{a, a + upper(a), false}};
    case FilterKind::kHighpass: return {{a - lower(a), a, true}};
    case FilterKind::kBandpass: return {{a - lower(a), a, true}, {b, b + upper(b), false}};
    default: return {{a, a + upper(a), false}, {b - lower(b), b, true}};
  }
}

Result<std::vector<double>> AutomaticFir(const FilterOptions& o) {
  const double factor = o.window == FirWindow::kHamming ? 3.3 : o.window == FirWindow::kHann ? 3.1 : 5.0;
  const std::vector<Transition> steps = Transitions(o);
  double narrowest = steps[0].to - steps[0].from;
  for (const Transition& t : steps) narrowest = std::min(narrowest, t.to - t.from);
  if (steps.size() == 2 && steps[0].to > steps[1].from) {
    return InvalidArgument("the band from " + std::to_string(o.freqs[0]) + " to " + std::to_string(o.freqs[1]) +
                           " Hz is narrower than its transitions; give taps");
  }
  const double length = std::ceil(factor / narrowest * o.rate);
  if (!(length < static_cast<double>(kMaxTaps))) {
    return InvalidArgument("an edge lies too near to 0 or to half the rate for a filter of at most " + std::to_string(kMaxTaps) + " taps");
  }
  const int64_t n = static_cast<int64_t>(length) | 1;
  std::vector<double> h(static_cast<size_t>(n));
  if (steps.back().up) h[static_cast<size_t>(n / 2)] = 1;
  for (auto t = steps.rbegin(); t != steps.rend(); ++t) {
    const double lo = t->from / (o.rate / 2), hi = t->to / (o.rate / 2);
    const int64_t length_t = std::min(static_cast<int64_t>(std::nearbyint(factor / ((hi - lo) / 2.0))) | 1, n);
    const std::vector<double> part = WindowedSinc(length_t, {0, (hi + lo) / 2.0}, o.window);
    const int64_t offset = (n - length_t) / 2;
    for (int64_t i = 0; i < length_t; ++i) h[static_cast<size_t>(offset + i)] += t->up ? -part[static_cast<size_t>(i)] : part[static_cast<size_t>(i)];
  }
  return h;
}

std::string Number(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", x);
  return text;
}

}  // namespace

Status FilterOptions::Validate() const {
  const std::string name = KindName(kind);
  if (!(rate >= 1) || !(rate <= 768000)) return InvalidArgument("the rate is " + Number(rate) + " Hz; it must lie between 1 and 768000");
  const size_t want = IsBand(kind) ? 2 : 1;
  if (freqs.size() != want) {
    return InvalidArgument("freqs has " + std::to_string(freqs.size()) + " values; a " + name + " needs " + (want == 2 ? "2: its edges in Hz" : "1, in Hz"));
  }
  for (size_t i = 0; i < want; ++i) {
    if (!(freqs[i] > 0) || !(freqs[i] < rate / 2)) {
      return InvalidArgument("freqs[" + std::to_string(i) + "] is " + Number(freqs[i]) + " Hz; it must lie between 0 and half the rate of " + Number(rate) + " Hz");
    }
  }
  if (want == 2 && !(freqs[0] < freqs[1])) return InvalidArgument("freqs is " + Number(freqs[0]) + ", " + Number(freqs[1]) + " Hz; the lower edge comes first");
  if (order < 1 || order > kMaxOrder) return InvalidArgument("order is " + std::to_string(order) + "; it must lie between 1 and " + std::to_string(kMaxOrder));
  if (!(q > 0) || !std::isfinite(q)) return InvalidArgument("q is " + Number(q) + "; it must be positive");
  if (design == FilterDesign::kFir) {
    if (kind == FilterKind::kNotch) return InvalidArgument("a notch is recursive; for FIR use kind = bandstop");
    if (taps < 0 || taps > kMaxTaps) return InvalidArgument("taps is " + std::to_string(taps) + "; it must lie between 1 and " + std::to_string(kMaxTaps));
    const bool passes_nyquist = kind == FilterKind::kHighpass || kind == FilterKind::kBandstop;
    if (taps > 0 && taps % 2 == 0 && (passes_nyquist || phase == FilterPhase::kZero)) {
      return InvalidArgument("taps is " + std::to_string(taps) + "; it must be odd for a " + (passes_nyquist ? name : "filter without delay"));
    }
  } else if (taps != 0) {
    return InvalidArgument("taps belongs to design = fir");
  }
  return Status::Ok();
}

Result<FilterCoefficients> DesignFilter(const FilterOptions& options) try {
  ZOO_RETURN_IF_ERROR(options.Validate());
  FilterCoefficients c;
  if (options.kind == FilterKind::kNotch) {
    c.sections = Notch(options);
  } else if (options.design == FilterDesign::kButterworth) {
    c.sections = GroupSections(Bilinear(Analogue(options)));
  } else if (options.taps == 0) {
    auto taps = AutomaticFir(options);
    if (!taps.ok()) return taps.status();
    c.taps = std::move(taps.value());
  } else {
    const double half = options.rate / 2, a = options.freqs[0] / half, b = options.freqs.back() / half;
    std::vector<double> edges;
    switch (options.kind) {
      case FilterKind::kLowpass: edges = {0, a}; break;
      case FilterKind::kHighpass: edges = {a, 1}; break;
      case FilterKind::kBandpass: edges = {a, b}; break;
      default: edges = {0, a, b, 1}; break;
    }
    c.taps = WindowedSinc(options.taps, edges, options.window);
  }
  for (size_t s = 0; s < c.sections.size(); s += 6) {
    const double* v = &c.sections[s];
    // both poles inside the unit circle
    const bool stable = std::isfinite(v[0]) && v[0] != 0 && std::abs(v[5]) < 1 && std::abs(v[4]) < 1 + v[5];
    if (!stable) {
      return InvalidArgument("a filter of order " + std::to_string(options.order) + " with these edges at " + Number(options.rate) +
                             " Hz is not stable in double precision; lower the order or resample the signal");
    }
  }
  for (const double t : c.taps) {
    if (!std::isfinite(t)) return InvalidArgument("taps is " + std::to_string(options.taps) + "; it is too few for these edges");
  }
  return c;
} catch (const std::bad_alloc&) {
  return OutOfMemory();
}

}  // namespace zoo

#include "bench/roofline_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>
#include <vector>

namespace erne::bench {
namespace {

// Pixels.
constexpr double kWidth = 1120, kHeight = 680;
constexpr double kLeft = 80, kRight = 870, kTop = 60, kBottom = 610;
constexpr double kLetter = 7, kLine = 14;  // a label's width per letter, and height
constexpr double kMarker = 4.5;
constexpr std::array<const char*, 4> kColours = {"#1257a8", "#b3401a", "#217a3c", "#6b3fa0"};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& b) const {
    return left < b.right && b.left < right && top < b.bottom && b.top < bottom;
  }
};

/// The horizontal roofs: peaks that lie together share a line.
struct Roof {
  double gflops;
  std::string label;
};

std::vector<Roof> roofs_of(const RooflinePoint& point) {
  std::vector<Roof> roofs;
  const auto add = [&](double gflops, const std::string& isa, const char* type) {
    if (gflops <= 0) return;
    const std::string ending = fmt::format(" {}", type);
    for (Roof& roof : roofs) {
      if (std::abs(roof.gflops / gflops - 1) > 0.1 || !roof.label.ends_with(ending)) continue;
      roof.label.insert(roof.label.size() - ending.size(), ", " + isa);
      roof.gflops = std::max(roof.gflops, gflops);
      return;
    }
    roofs.push_back({gflops, isa + ending});
  };
  for (const PeakRate& peak : point.peaks) {
    add(peak.f32_gflops, peak.isa, "f32");
    add(peak.bf16_gflops, peak.isa, "bf16");
  }
  std::sort(roofs.begin(), roofs.end(),
            [](const Roof& a, const Roof& b) { return a.gflops > b.gflops; });
  return roofs;
}

class Plot {
 public:
  Plot(const RooflinePoint& point, std::span<const StepProfile> steps);
  std::string draw(const std::string& title, std::span<const StepProfile> steps);

 private:
  double x(double intensity) const {
    return kLeft + (std::log10(intensity) - min_x_) / (max_x_ - min_x_) * (kRight - kLeft);
  }
  double y(double gflops) const {
    return kBottom - (std::log10(gflops) - min_y_) / (max_y_ - min_y_) * (kBottom - kTop);
  }
  template <typename... T>
  void add(fmt::format_string<T...> format, T&&... args) {
    fmt::format_to(std::back_inserter(svg_), format, std::forward<T>(args)...);
    svg_ += '\n';
  }
  void line(double x1, double y1, double x2, double y2, const char* style);
  void text(double left, double baseline, std::string_view words, const char* style = "");
  void draw_axes();
  void draw_machine();
  void draw_legend(std::span<const StepProfile> steps);
  void place_label(double px, double py, std::string_view words, const char* colour);
  bool is_free(const Box& box) const;

  const RooflinePoint& point_;
  const std::vector<Roof> roofs_;
  double min_x_, max_x_, min_y_, max_y_;  // log10
  std::vector<Box> taken_;                // markers and labels
  std::string svg_;
};

Plot::Plot(const RooflinePoint& point, std::span<const StepProfile> steps)
    : point_(point), roofs_(roofs_of(point)) {
  const double ridge = roofs_.front().gflops / point.read_gb_per_s;
  double low = 0.2, high = ridge * 8, slow = roofs_.back().gflops / 4;
  double fast = roofs_.front().gflops * 1.6;
  for (const StepProfile& step : steps) {
    for (const OpRate& r : step.ops) {
      if (r.flops == 0) continue;
      low = std::min(low, r.intensity() / 2);
      high = std::max(high, r.intensity() * 2.5);
      slow = std::min(slow, r.gflops() / 2);
      fast = std::max(fast, r.gflops() * 1.6);  // caches can be faster than memory
    }
  }
  min_x_ = std::log10(low);
  max_x_ = std::log10(high);
  min_y_ = std::log10(std::min(slow, low * point.read_gb_per_s));
  max_y_ = std::log10(fast);
}

void Plot::line(double x1, double y1, double x2, double y2, const char* style) {
  add(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" {}/>)", x1, y1, x2, y2, style);
}

void Plot::text(double left, double baseline, std::string_view words, const char* style) {
  add(R"(<text x="{:.1f}" y="{:.1f}" {}>{}</text>)", left, baseline, style, escaped(words));
}

// Decades with figures, and faint lines at their 2 to 9.
void Plot::draw_axes() {
  const auto each = [](double low, double high, auto&& tick) {
    for (int decade = static_cast<int>(std::floor(low)); decade <= high; ++decade) {
      for (int digit = 1; digit < 10; ++digit) {
        const double value = std::pow(10, decade) * digit;
        if (std::log10(value) >= low && std::log10(value) <= high) tick(value, digit);
      }
    }
  };
  const auto style = [](int digit) {
    return digit == 1 ? R"(stroke="#c4c4c4")" : R"(stroke="#eeeeee")";
  };
  each(min_x_, max_x_, [&](double value, int digit) {
    line(x(value), kTop, x(value), kBottom, style(digit));
    if (digit == 1)
      text(x(value), kBottom + 18, fmt::format("{:g}", value), R"(text-anchor="middle")");
  });
  each(min_y_, max_y_, [&](double value, int digit) {
    line(kLeft, y(value), kRight, y(value), style(digit));
    if (digit == 1)
      text(kLeft - 8, y(value) + 4, fmt::format("{:g}", value), R"(text-anchor="end")");
  });
  text((kLeft + kRight) / 2, kBottom + 44, "operational intensity (FLOP/byte)",
       R"(text-anchor="middle" font-size="14")");
  add(R"x(<text transform="translate(24 {:.1f}) rotate(-90)" text-anchor="middle" )x"
      R"x(font-size="14">speed (GFLOP/s)</text>)x",
      (kTop + kBottom) / 2);
}

void Plot::draw_machine() {
  const double bandwidth = point_.read_gb_per_s;
  const char* const roof_style = R"(stroke="#222222" stroke-width="1.5")";
  const double ridge = roofs_.front().gflops / bandwidth;
  const double low = std::pow(10, std::max(min_x_, min_y_ - std::log10(bandwidth)));
  line(x(low), y(low * bandwidth), x(ridge), y(ridge * bandwidth), roof_style);
  const double slope = std::atan2(y(ridge * bandwidth) - y(low * bandwidth), x(ridge) - x(low));
  const double at = low * 1.3;
  const std::string words = fmt::format("memory: {:.1f} GB/s", bandwidth);
  add(R"x(<text transform="translate({:.1f} {:.1f}) rotate({:.1f})">{}</text>)x", x(at),
      y(at * bandwidth) - 7, slope * 180 / std::acos(-1.0), words);
  for (size_t i = 0; i < words.size(); ++i) {
    const double along = static_cast<double>(i) * kLetter;
    const double px = x(at) + along * std::cos(slope);
    const double py = y(at * bandwidth) - 7 + along * std::sin(slope);
    taken_.push_back({px - 6, py - kLine, px + kLetter, py + 2});
  }
  double below = 0;  // labels of roofs that lie together go under each other
  for (const Roof& roof : roofs_) {
    line(x(roof.gflops / bandwidth), y(roof.gflops), kRight, y(roof.gflops), roof_style);
    const double baseline = std::max(y(roof.gflops) + 4, below + kLine * 1.3);
    below = baseline + kLine;
    text(kRight + 8, baseline, fmt::format("{:.0f} GFLOP/s", roof.gflops));
    text(kRight + 8, below, roof.label);
  }
}

void Plot::draw_legend(std::span<const StepProfile> steps) {
  double baseline = kBottom - 12 - kLine * 1.4 * static_cast<double>(steps.size() - 1);
  size_t longest = 0;
  for (const StepProfile& step : steps) longest = std::max(longest, step.shape.name.size());
  const double left = kRight - 30 - kLetter * static_cast<double>(longest);
  taken_.push_back({left - 8, baseline - kLine, kRight, kBottom});
  for (size_t i = 0; i < steps.size(); ++i, baseline += kLine * 1.4) {
    add(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>)", left, baseline - 4, kMarker,
        kColours.at(i % kColours.size()));
    text(left + 12, baseline, steps[i].shape.name, R"(class="halo")");
  }
}

bool Plot::is_free(const Box& box) const {
  if (box.left < kLeft || box.right > kRight || box.top < kTop || box.bottom > kBottom)
    return false;
  return std::none_of(taken_.begin(), taken_.end(), [&](const Box& b) { return b.meets(box); });
}

// The nearest free place around the point; from far away a line leads back.
void Plot::place_label(double px, double py, std::string_view words, const char* colour) {
  const double width = kLetter * static_cast<double>(words.size());
  for (double radius = 10; radius < 320; radius += 6) {
    for (const double angle :
         {0.0, 180.0, 330.0, 30.0, 210.0, 150.0, 300.0, 60.0, 240.0, 120.0, 270.0, 90.0}) {
      const double cos = std::cos(angle * std::acos(-1.0) / 180);
      const double centre_y = py + radius * std::sin(angle * std::acos(-1.0) / 180);
      const double left = px + radius * cos - width * (1 - cos) / 2;
      const Box box{left - 1, centre_y - kLine / 2, left + width + 1, centre_y + kLine / 2};
      if (!is_free(box)) continue;
      taken_.push_back(box);
      if (radius > 10) {
        line(px, py, std::clamp(px, box.left, box.right), std::clamp(py, box.top, box.bottom),
             fmt::format(R"(stroke="{}" stroke-width="0.7")", colour).c_str());
      }
      add(R"(<text x="{:.1f}" y="{:.1f}" fill="{}" class="halo">{}</text>)", left, centre_y + 4,
          colour, escaped(words));
      return;
    }
  }
}

std::string Plot::draw(const std::string& title, std::span<const StepProfile> steps) {
  add(R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}" )"
      R"(font-family="sans-serif" font-size="12" fill="#222222">)",
      kWidth, kHeight);
  add("<style>.halo {{ paint-order: stroke; stroke: white; stroke-width: 3px; }}</style>");
  add(R"(<rect width="100%" height="100%" fill="white"/>)");
  text(kLeft, 34, title, R"(font-size="16")");
  draw_axes();
  draw_machine();
  if (!steps.empty()) draw_legend(steps);
  const auto each = [&](auto&& visit) {
    for (size_t i = 0; i < steps.size(); ++i) {
      for (const OpRate& r : steps[i].ops) {
        if (r.flops > 0)  // copies have no place on these axes
          visit(r, x(r.intensity()), y(r.gflops()), kColours.at(i % kColours.size()));
      }
    }
  };
  each([&](const OpRate&, double px, double py, const char* colour) {
    add(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>)", px, py, kMarker, colour);
    taken_.push_back({px - kMarker, py - kMarker, px + kMarker, py + kMarker});
  });
  each([&](const OpRate& r, double px, double py, const char* colour) {
    place_label(px, py, op_name(r.op), colour);
  });
  return svg_ + "</svg>\n";
}

}  // namespace

std::string roofline_svg(const Roofline& roofline, std::span<const StepProfile> steps,
                         const std::string& model) {
  const RooflinePoint& point = roofline.points.back();
  const std::string threads =
      fmt::format("{} thread{}", point.threads, point.threads == 1 ? "" : "s");
  const std::string title = model.empty()
                                ? fmt::format("{}, {}", roofline.processor, threads)
                                : fmt::format("{} on {}, {}", model, roofline.processor, threads);
  return Plot(point, steps).draw(title, steps);
}

}  // namespace erne::bench

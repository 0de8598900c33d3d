// How a 2-bit weight NAME lies in a folder that `erne quantize` writes (spec quantization.md 8.2,
// 8.3, 13): in the checkpoint's own bytes, inputs first. wint2.5: NAME holds the words, U16
// [ceil(k / 64) 10, n], and NAME.super, BF16 [n]. wint2: NAME holds a code for every four inputs,
// U8 [ceil(k / 64) 16, n], NAME.scale the local scales, U8 [ceil(k / 128), n], and NAME.super, BF16
// [n], NAME.code_scale and NAME.code_zp, F32 [n].
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/stored_codes.h"

namespace erne {

/// code_infos(), write_codes() and open_codes() of stored_codes.h, for these weights.
std::vector<TensorInfo> ccq_infos(const std::string& name, const CodeRows& rows);
void write_ccq(const CodeRows& rows, ThreadPool& pool, SafetensorsWriter& writer,
               const RowObserver& observer);
std::shared_ptr<const CodeRows> open_ccq(const StoredCodeParts& parts,
                                         const ExpectedTensor& wanted);

}  // namespace erne

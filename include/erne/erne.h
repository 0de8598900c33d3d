// The library's public face: an Engine that answers Requests through a TokenStream, and the Error
// it throws. Link erne_engine; examples/generate.cc shows all of it.
#pragma once

#include "base/error.h"       // Error, Code
#include "engine/engine.h"    // Engine, EngineOptions, EngineStats, TokenStream
#include "engine/request.h"   // Request, SamplingParams, Output, OutputSink
#include "token/tokenizer.h"  // Tokenizer: text to token ids and back

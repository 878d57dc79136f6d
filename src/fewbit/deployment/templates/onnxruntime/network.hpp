// The network in ONNX Runtime: tensors in, tensors out, both in the network's order.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <map>
#include <string>
#include <vector>

#include "tensor.hpp"

struct Port {
    std::string name, type;
    std::vector<int64_t> shape;  // -1: free
};

class Network {
public:
    std::vector<Port> inputs, outputs;

    Network(const std::string& file, int threads) : session(env, file.c_str(), options(threads)) {
        Ort::AllocatorWithDefaultOptions allocator;
        for (size_t i = 0; i < session.GetInputCount(); i++)
            inputs.push_back(port_of(session.GetInputNameAllocated(i, allocator).get(), session.GetInputTypeInfo(i)));
        for (size_t i = 0; i < session.GetOutputCount(); i++)
            outputs.push_back(port_of(session.GetOutputNameAllocated(i, allocator).get(), session.GetOutputTypeInfo(i)));
    }

    std::vector<Tensor> run(const std::vector<Tensor>& feeds) {
        const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        std::vector<const char*> in, out;
        std::vector<Ort::Value> values;
        for (const Port& port : inputs) in.push_back(port.name.c_str());
        for (const Port& port : outputs) out.push_back(port.name.c_str());
        for (size_t i = 0; i < feeds.size(); i++)
            values.push_back(Ort::Value::CreateTensor(memory, const_cast<char*>(feeds[i].bytes.data()), feeds[i].bytes.size(),
                                                      feeds[i].shape.data(), feeds[i].shape.size(), types().at(inputs[i].type)));
        const auto answer = session.Run(Ort::RunOptions{nullptr}, in.data(), values.data(), values.size(), out.data(), out.size());
        std::vector<Tensor> found;
        for (const Ort::Value& y : answer) {
            const auto info = y.GetTensorTypeAndShapeInfo();
            Tensor x{word_of(info.GetElementType()), info.GetShape(), {}};
            const char* data = static_cast<const char*>(y.GetTensorRawData());
            x.bytes.assign(data, data + x.count() * x.item());
            found.push_back(std::move(x));
        }
        return found;
    }

private:
    Ort::Env env{ORT_LOGGING_LEVEL_WARNING, "run"};
    Ort::Session session;

    static Ort::SessionOptions options(int threads) {
        Ort::SessionOptions chosen;
        chosen.SetIntraOpNumThreads(threads);
        chosen.SetInterOpNumThreads(1);
        return chosen;
    }

    static const std::map<std::string, ONNXTensorElementDataType>& types() {
        static const std::map<std::string, ONNXTensorElementDataType> known{
            {"f4", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT},  {"f2", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16},
            {"f8", ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE}, {"b1", ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL},
            {"i1", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8},   {"i2", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16},
            {"i4", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32},  {"i8", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64},
            {"u1", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8},  {"u2", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16},
            {"u4", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32}, {"u8", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64}};
        return known;
    }

    static std::string word_of(ONNXTensorElementDataType type) {
        for (const auto& [word, known] : types())
            if (known == type) return word;
        throw std::runtime_error("this program knows no numbers of ONNX type " + std::to_string(type));
    }

    static Port port_of(const char* name, const Ort::TypeInfo& type) {
        const auto info = type.GetTensorTypeAndShapeInfo();
        return {name, word_of(info.GetElementType()), info.GetShape()};
    }
};

// The network in OpenVINO: tensors in, tensors out, both in the network's order.
#pragma once

#include <map>
#include <openvino/openvino.hpp>
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

    Network(const std::string& file, int threads) {
        ov::AnyMap settings{ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
        if (threads > 0) settings.emplace(ov::inference_num_threads(threads));
        const auto model = core.read_model(file);
        for (const auto& port : model->inputs()) inputs.push_back(port_of(port));
        for (const auto& port : model->outputs()) outputs.push_back(port_of(port));
        request = core.compile_model(model, "CPU", settings).create_infer_request();
    }

    std::vector<Tensor> run(const std::vector<Tensor>& feeds) {
        for (size_t i = 0; i < feeds.size(); i++) {
            const ov::Shape shape(feeds[i].shape.begin(), feeds[i].shape.end());
            request.set_input_tensor(i, ov::Tensor(type_of(inputs[i].type), shape, const_cast<char*>(feeds[i].bytes.data())));
        }
        request.infer();
        std::vector<Tensor> found;
        for (size_t i = 0; i < outputs.size(); i++) {
            const ov::Tensor y = request.get_output_tensor(i);
            const char* data = static_cast<const char*>(y.data());
            const ov::Shape shape = y.get_shape();
            found.push_back({word_of(y.get_element_type()), std::vector<int64_t>(shape.begin(), shape.end()),
                             std::vector<char>(data, data + y.get_byte_size())});
        }
        return found;
    }

private:
    ov::Core core;
    ov::InferRequest request;

    static const std::map<std::string, ov::element::Type>& types() {
        static const std::map<std::string, ov::element::Type> known{
            {"f4", ov::element::f32}, {"f2", ov::element::f16}, {"f8", ov::element::f64}, {"b1", ov::element::boolean},
            {"i1", ov::element::i8},  {"i2", ov::element::i16}, {"i4", ov::element::i32}, {"i8", ov::element::i64},
            {"u1", ov::element::u8},  {"u2", ov::element::u16}, {"u4", ov::element::u32}, {"u8", ov::element::u64}};
        return known;
    }

    static ov::element::Type type_of(const std::string& word) { return types().at(word); }

    static std::string word_of(const ov::element::Type& type) {
        for (const auto& [word, known] : types())
            if (known == type) return word;
        throw std::runtime_error("this program knows no numbers of type " + type.to_string());
    }

    static Port port_of(const ov::Output<ov::Node>& port) {
        std::vector<int64_t> shape;
        for (const auto& d : port.get_partial_shape()) shape.push_back(d.is_static() ? d.get_length() : -1);
        return {port.get_names().empty() ? "output" : *port.get_names().begin(), word_of(port.get_element_type()), shape};
    }
};

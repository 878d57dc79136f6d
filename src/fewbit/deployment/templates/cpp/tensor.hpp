// A tensor as .npy files hold it: element type, shape, bytes. Little-endian machines only.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Tensor {
    std::string type;  // as numpy has it: "f4" float, "f2" half, "u1" uint8, "i8" int64, "b1" bool
    std::vector<int64_t> shape;
    std::vector<char> bytes;

    size_t item() const { return std::stoul(type.substr(1)); }
    size_t count() const {
        size_t n = 1;
        for (int64_t d : shape) n *= static_cast<size_t>(d);
        return n;
    }
};

inline std::string text_of(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); i++)
        text += (i ? ", " : "") + (shape[i] < 0 ? std::string("?") : std::to_string(shape[i]));
    return text + "]";
}

inline std::vector<char> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return std::vector<char>(std::istreambuf_iterator<char>(file), {});
}

// The text behind a key of a .npy header: {'descr': '<f4', 'fortran_order': False, 'shape': (1, 28), }
inline std::string value_of(const std::string& header, const std::string& key, const std::string& path) {
    size_t at = header.find("'" + key + "'");
    at = at == std::string::npos ? at : header.find(':', at);
    if (at == std::string::npos) throw std::runtime_error(path + " has no " + key);
    return header.substr(header.find_first_not_of(" ", at + 1));
}

inline Tensor read_npy(const std::string& path) {
    std::vector<char> file = read_file(path);
    if (file.size() < 10 || std::memcmp(file.data(), "\x93NUMPY", 6) != 0)
        throw std::runtime_error(path + " is not an .npy file");
    const bool old = file[6] == 1;  // version 1 has two bytes for the length of the header, later ones have four
    size_t length = 0;
    for (size_t i = 0; i < (old ? 2 : 4) && 8 + i < file.size(); i++)
        length |= static_cast<size_t>(static_cast<unsigned char>(file[8 + i])) << (8 * i);
    const size_t start = (old ? 10 : 12) + length;
    if (start > file.size()) throw std::runtime_error(path + " is cut short");
    const std::string header(file.data() + start - length, length);
    Tensor x;
    const std::string descr = value_of(header, "descr", path);
    if (descr.compare(0, 3, "'|O") == 0) throw std::runtime_error(path + " holds Python objects; save numbers, with one type for all");
    x.type = descr.substr(2, descr.find('\'', 1) - 2);
    if (descr[1] == '>' || std::string("fiub").find(x.type[0]) == std::string::npos || x.type.size() < 2)
        throw std::runtime_error(path + " holds " + descr.substr(0, 8) + ", which this program cannot read");
    if (value_of(header, "fortran_order", path).compare(0, 5, "False") != 0)
        throw std::runtime_error(path + " is in Fortran order; save it with numpy.ascontiguousarray");
    const std::string shape = value_of(header, "shape", path);
    for (size_t i = 1; i < shape.size() && shape[i] != ')';) {
        size_t used = 0;
        x.shape.push_back(std::stoll(shape.substr(i), &used));
        i = shape.find_first_not_of(", ", i + used);
    }
    if (file.size() - start != x.count() * x.item()) throw std::runtime_error(path + " does not hold what its shape says");
    x.bytes.assign(file.begin() + static_cast<std::ptrdiff_t>(start), file.end());
    return x;
}

inline void write_npy(const std::string& path, const Tensor& x) {
    std::string header = "{'descr': '" + std::string(x.item() == 1 ? "|" : "<") + x.type + "', 'fortran_order': False, 'shape': (";
    for (int64_t d : x.shape) header += std::to_string(d) + ",";
    header += "), }";
    header += std::string(63 - (10 + header.size()) % 64, ' ') + "\n";
    std::ofstream file(path, std::ios::binary);
    file.write("\x93NUMPY\x01\x00", 8);
    file.put(static_cast<char>(header.size() & 255)).put(static_cast<char>(header.size() >> 8));
    file.write(header.data(), static_cast<std::streamsize>(header.size()));
    file.write(x.bytes.data(), static_cast<std::streamsize>(x.bytes.size()));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// Bytes without a header, as a tensor of a known type; the one axis that may be free follows from their number.
inline Tensor from_raw(const std::string& path, const std::string& type, std::vector<int64_t> shape) {
    Tensor x{type, shape, read_file(path)};
    size_t known = x.item(), open = 0;
    for (int64_t d : shape) d < 0 ? void(open++) : void(known *= static_cast<size_t>(d));
    if (open > 1 || known == 0 || (open ? x.bytes.size() % known != 0 : x.bytes.size() != known))
        throw std::runtime_error(path + " has " + std::to_string(x.bytes.size()) + " bytes; the input takes " + type + text_of(shape));
    for (int64_t& d : x.shape)
        if (d < 0) d = static_cast<int64_t>(x.bytes.size() / known);
    return x;
}

inline double number(const Tensor& x, size_t i) {
    const char* at = x.bytes.data() + i * x.item();
    auto as = [at](auto zero) { std::memcpy(&zero, at, sizeof zero); return static_cast<double>(zero); };
    if (x.type == "f4") return as(float{});
    if (x.type == "f8") return as(double{});
    if (x.type == "i8") return as(int64_t{});
    if (x.type == "i4") return as(int32_t{});
    if (x.type == "i2") return as(int16_t{});
    if (x.type == "i1") return as(int8_t{});
    if (x.type == "u2") return as(uint16_t{});
    if (x.type == "u4") return as(uint32_t{});
    if (x.type == "u8") return as(uint64_t{});
    if (x.type == "u1" || x.type == "b1") return as(uint8_t{});
    throw std::runtime_error("numbers of type " + x.type + " cannot be printed");
}

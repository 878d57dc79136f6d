// Runs the network on files and writes what it answers.
//
//     run [--threads N] [--repeat N] [--out FOLDER] MODEL INPUT...
//
// INPUT: one file for each input, in the network's order: .npy, or bytes as they lie in memory (such as raw float32).
// FOLDER: gets output0.npy, output1.npy, … in the network's order.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "network.hpp"
#include "tensor.hpp"

struct Words {
    int threads = 0, repeat = 1;
    std::string out, model;
    std::vector<std::string> files;
};

static const std::string usage = "usage: run [--threads N] [--repeat N] [--out FOLDER] MODEL INPUT...";

static int whole(const std::string& word, const std::string& value, int least) {
    int found = -1;
    if (!value.empty() && value.size() < 10 && value.find_first_not_of("0123456789") == std::string::npos) found = std::stoi(value);
    if (found < least) throw std::runtime_error(word + " is " + value + "; it must be a whole number of at least " + std::to_string(least));
    return found;
}

static Words read_words(int count, char** given) {
    Words words;
    for (int i = 1; i < count; i++) {
        const std::string word = given[i];
        if (word.compare(0, 2, "--") != 0) {
            words.model.empty() ? void(words.model = word) : words.files.push_back(word);
            continue;
        }
        if (i + 1 == count) throw std::runtime_error(usage);
        const std::string value = given[++i];
        if (word == "--out") words.out = value;
        else if (word == "--threads") words.threads = whole(word, value, 0);
        else if (word == "--repeat") words.repeat = whole(word, value, 1);
        else throw std::runtime_error("unknown word " + word + "; " + usage);
    }
    if (words.files.empty()) throw std::runtime_error(usage);
    if (!words.out.empty() && !std::filesystem::is_directory(words.out))
        throw std::runtime_error("cannot write to " + words.out + ": there is no such folder; make it first");
    return words;
}

static Tensor read_input(const std::string& file, const Port& port) {
    const bool npy = file.size() > 4 && file.compare(file.size() - 4, 4, ".npy") == 0;
    Tensor x = npy ? read_npy(file) : from_raw(file, port.type, port.shape);
    bool fits = x.type == port.type && x.shape.size() == port.shape.size();
    for (size_t i = 0; fits && i < x.shape.size(); i++) fits = port.shape[i] < 0 || port.shape[i] == x.shape[i];
    if (!fits)
        throw std::runtime_error(file + " holds " + x.type + text_of(x.shape) + "; input " + port.name + " takes " + port.type + text_of(port.shape));
    return x;
}

static void print_output(const Port& port, const Tensor& x) {
    std::printf("%s: %s%s\n", port.name.c_str(), x.type.c_str(), text_of(x.shape).c_str());
    if (x.shape.empty() || x.shape.size() > 2 || x.count() == 0 || x.type == "f2") return;
    const size_t wide = static_cast<size_t>(x.shape.back()), rows = std::min<size_t>(x.count() / wide, 5);
    for (size_t row = 0; row < rows; row++) {
        std::vector<size_t> order(wide);
        std::iota(order.begin(), order.end(), size_t{0});
        const size_t top = std::min<size_t>(5, wide);
        auto at = [&](size_t i) { return number(x, row * wide + i); };
        std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(),
                          [&](size_t a, size_t b) { return at(a) > at(b); });
        std::printf("  %zu:", row);
        for (size_t i = 0; i < top; i++) std::printf("  %zu: %.5g", order[i], at(order[i]));
        std::printf("\n");
    }
}

int main(int count, char** given) try {
    if (count > 1 && (std::string(given[1]) == "--help" || std::string(given[1]) == "-h")) {
        std::printf("%s\n", usage.c_str());
        return 0;
    }
    const Words words = read_words(count, given);
    Network network(words.model, words.threads);
    if (words.files.size() != network.inputs.size())
        throw std::runtime_error("the network has " + std::to_string(network.inputs.size()) + (network.inputs.size() == 1 ? " input, and " : " inputs, and ") +
                                 std::to_string(words.files.size()) + (words.files.size() == 1 ? " file is given" : " files are given"));
    std::vector<Tensor> feeds, found;
    for (size_t i = 0; i < words.files.size(); i++) feeds.push_back(read_input(words.files[i], network.inputs[i]));
    std::vector<double> ms;
    for (int i = 0; i < words.repeat; i++) {
        const auto start = std::chrono::steady_clock::now();
        found = network.run(feeds);
        ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
    for (size_t i = 0; i < found.size(); i++) {
        print_output(network.outputs[i], found[i]);
        if (!words.out.empty()) write_npy(words.out + "/output" + std::to_string(i) + ".npy", found[i]);
    }
    std::sort(ms.begin(), ms.end());
    if (words.repeat > 1) std::printf("%.3f ms a run, the median of %d\n", ms[ms.size() / 2], words.repeat);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}

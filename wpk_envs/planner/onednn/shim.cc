// oneDNN's primitives for a plan: made from plain numbers, bound to buffers once, run by one call without arguments.
//
// Every function returns 0 or a null pointer on failure, and `wpk_error` then says what happened in this thread.
// The number of threads is set with the OpenMP library that oneDNN itself was linked with, whichever that is.

#include <oneapi/dnnl/dnnl.hpp>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

using namespace dnnl;

extern "C" int omp_get_max_threads(void);
extern "C" void omp_set_num_threads(int);

#define EXPORT extern "C" __attribute__((visibility("default")))

// A float32 tensor: with strides, or with axis 1 in blocks of `block` elements. Rank 0: there is none.
struct Tensor {
    int64_t rank, block;
    int64_t dims[6], strides[6];
};

// What follows a primitive on its output: an elementwise function, or a binary one with an operand.
struct PostOp {
    const char *algorithm;
    double alpha, beta;
    Tensor operand;
};

// What `make` needs to know of a primitive. `weights` is the canonical array; oneDNN chooses how it packs it.
struct Recipe {
    const char *kind, *algorithm, *implementation;
    int64_t threads, source_count, post_op_count, axis;
    int64_t kernel[2], stride[2], dilation[2], before[2], after[2];
    double alpha, beta, epsilon;
    Tensor weights, bias, destination;
    const Tensor *sources;
    const PostOp *post_ops;
};

struct Argument {
    int64_t id;  // one of oneDNN's DNNL_ARG_...
    void *data;
    int64_t bytes;
};

namespace {

thread_local std::string last_error;

template <typename Result, typename Body>
Result guarded(Result failure, Body body) {
    try {
        return body();
    } catch (const std::exception &error) {
        last_error = error.what();
    } catch (...) {
        last_error = "an unknown error";
    }
    return failure;
}

const engine &cpu() {
    static const engine instance(engine::kind::cpu, 0);
    return instance;
}

const stream &queue() {
    static const stream instance(cpu());
    return instance;
}

// The number of threads while it lives; the caller's own number is there again afterwards.
class Threads {
public:
    explicit Threads(int wanted) : before_(omp_get_max_threads()), wanted_(wanted) {
        if (wanted_ != before_) omp_set_num_threads(wanted_);
    }
    ~Threads() {
        if (wanted_ != before_) omp_set_num_threads(before_);
    }

private:
    int before_, wanted_;
};

// Memory that the steps of a thread use one after the other.
class Scratchpad {
public:
    ~Scratchpad() { std::free(data_); }
    void *of_size(size_t bytes) {
        if (bytes <= bytes_) return data_;
        std::free(data_);
        bytes_ = (bytes + 4095) / 4096 * 4096;
        data_ = std::aligned_alloc(4096, bytes_);
        if (!data_) bytes_ = 0;
        return data_;
    }

private:
    void *data_ = nullptr;
    size_t bytes_ = 0;
};

thread_local Scratchpad scratchpad;

memory::dims numbers(const int64_t *from, int64_t count) { return memory::dims(from, from + count); }

memory::desc layout(const Tensor &tensor) {
    if (tensor.rank == 0) return memory::desc();
    const auto dims = numbers(tensor.dims, tensor.rank), strides = numbers(tensor.strides, tensor.rank);
    const auto type = memory::data_type::f32;
    if (tensor.block == 8) return memory::desc(dims, type, memory::format_tag::nChw8c);
    if (tensor.block == 16) return memory::desc(dims, type, memory::format_tag::nChw16c);
    return memory::desc(dims, type, strides);
}

memory::desc packed(const Tensor &weights) {
    return memory::desc(numbers(weights.dims, weights.rank), memory::data_type::f32, memory::format_tag::any);
}

algorithm named(const std::string &name) {
    static const std::map<std::string, algorithm> all = {
            {"direct", algorithm::convolution_direct},
            {"relu", algorithm::eltwise_relu}, {"clip", algorithm::eltwise_clip},
            {"gelu_erf", algorithm::eltwise_gelu_erf}, {"gelu_tanh", algorithm::eltwise_gelu_tanh},
            {"logistic", algorithm::eltwise_logistic}, {"tanh", algorithm::eltwise_tanh},
            {"swish", algorithm::eltwise_swish}, {"hardswish", algorithm::eltwise_hardswish},
            {"hardsigmoid", algorithm::eltwise_hardsigmoid}, {"exp", algorithm::eltwise_exp},
            {"sqrt", algorithm::eltwise_sqrt}, {"linear", algorithm::eltwise_linear},
            {"add", algorithm::binary_add}, {"sub", algorithm::binary_sub}, {"mul", algorithm::binary_mul},
            {"div", algorithm::binary_div}, {"max", algorithm::binary_max}, {"min", algorithm::binary_min},
            {"max_pool", algorithm::pooling_max}, {"avg_pool", algorithm::pooling_avg_exclude_padding},
            {"avg_pool_with_padding", algorithm::pooling_avg_include_padding},
            {"softmax", algorithm::softmax_accurate}};
    return all.at(name);
}

primitive_attr attributes(const Recipe &recipe) {
    post_ops chain;
    for (int64_t i = 0; i < recipe.post_op_count; ++i) {
        const PostOp &op = recipe.post_ops[i];
        if (op.operand.rank) chain.append_binary(named(op.algorithm), layout(op.operand));
        else chain.append_eltwise(named(op.algorithm), float(op.alpha), float(op.beta));
    }
    primitive_attr attr;
    attr.set_post_ops(chain);
    attr.set_scratchpad_mode(scratchpad_mode::user);
    attr.set_fpmath_mode(fpmath_mode::strict);
    return attr;
}

// oneDNN's first implementation of a recipe, whatever `recipe.implementation` says.
primitive_desc_base first(const Recipe &r) {
    const std::string kind = r.kind;
    const auto inference = prop_kind::forward_inference;
    const auto attr = attributes(r);
    const auto source = layout(r.sources[0]), bias = layout(r.bias), destination = layout(r.destination);
    const auto stride = numbers(r.stride, 2), dilation = numbers(r.dilation, 2), kernel = numbers(r.kernel, 2);
    const auto before = numbers(r.before, 2), after = numbers(r.after, 2);
    const auto affine = normalization_flags::use_scale | normalization_flags::use_shift;
    if (kind == "convolution")
        return convolution_forward::primitive_desc(cpu(), inference, named(r.algorithm), source, packed(r.weights),
                bias, destination, stride, dilation, before, after, attr);
    if (kind == "inner_product")
        return inner_product_forward::primitive_desc(
                cpu(), inference, source, packed(r.weights), bias, destination, attr);
    if (kind == "matmul")
        return matmul::primitive_desc(
                cpu(), source, r.weights.rank ? packed(r.weights) : layout(r.sources[1]), bias, destination, attr);
    if (kind == "pooling")
        return pooling_forward::primitive_desc(cpu(), inference, named(r.algorithm), source, destination, stride,
                kernel, dilation, before, after, attr);
    if (kind == "eltwise")
        return eltwise_forward::primitive_desc(cpu(), inference, named(r.algorithm), source, destination,
                float(r.alpha), float(r.beta), attr);
    if (kind == "binary")
        return binary::primitive_desc(cpu(), named(r.algorithm), source, layout(r.sources[1]), destination, attr);
    if (kind == "batch_normalization")
        return batch_normalization_forward::primitive_desc(cpu(), inference, source, destination, float(r.epsilon),
                affine | normalization_flags::use_global_stats, attr);
    if (kind == "layer_normalization")
        return layer_normalization_forward::primitive_desc(
                cpu(), inference, source, destination, float(r.epsilon), affine, attr);
    if (kind == "softmax")
        return softmax_forward::primitive_desc(
                cpu(), inference, named(r.algorithm), source, destination, int(r.axis), attr);
    if (kind == "reorder") return reorder::primitive_desc(cpu(), source, cpu(), destination, attr);
    if (kind == "concat") {
        std::vector<memory::desc> parts;
        for (int64_t i = 0; i < r.source_count; ++i) parts.push_back(layout(r.sources[i]));
        return concat::primitive_desc(cpu(), destination, int(r.axis), parts, attr);
    }
    throw std::runtime_error("no such kind of primitive: " + kind);
}

bool next(primitive_desc_base &description) {
    return dnnl_primitive_desc_next_impl(description.get()) == dnnl_success;
}

primitive_desc_base chosen(const Recipe &recipe) {
    auto description = first(recipe);
    do {
        if (std::string(recipe.implementation) == description.impl_info_str()) return description;
    } while (next(description));
    throw std::runtime_error(std::string("there is no implementation ") + recipe.implementation + " here");
}

struct Step {
    primitive run;
    std::vector<memory> memories;
    std::vector<dnnl_exec_arg_t> arguments;
    memory scratch;
    size_t scratch_bytes;
    void *scratch_data;
    int threads;
};

int execute(Step &step) {
    if (step.scratch_bytes) {
        void *data = scratchpad.of_size(step.scratch_bytes);
        if (!data) return dnnl_out_of_memory;
        if (data != step.scratch_data) {
            if (const int status = dnnl_memory_set_data_handle(step.scratch.get(), data)) return status;
            step.scratch_data = data;
        }
    }
    return dnnl_primitive_execute(step.run.get(), queue().get(), int(step.arguments.size()), step.arguments.data());
}

}  // namespace

EXPORT const char *wpk_error() { return last_error.c_str(); }

// Writes the names of all implementations, the first choice first, a line each; nothing if there are none.
EXPORT int wpk_implementations(const Recipe *recipe, char *names, int64_t size) {
    return guarded(0, [&] {
        Threads threads(int(recipe->threads));
        std::set<std::string> seen;
        std::string all;
        try {
            auto description = first(*recipe);
            do {
                const std::string name = description.impl_info_str();
                if (seen.insert(name).second) all += name + "\n";
            } while (next(description));
        } catch (const error &refused) {
            if (refused.status != dnnl_unimplemented && refused.status != dnnl_invalid_arguments) throw;
        }
        if (int64_t(all.size()) >= size) throw std::runtime_error("too many implementations");
        all.copy(names, all.size());
        names[all.size()] = 0;
        return 1;
    });
}

// Bytes of the weights as the implementation packs them.
EXPORT int64_t wpk_weights_bytes(const Recipe *recipe) {
    return guarded(int64_t(0), [&] {
        Threads threads(int(recipe->threads));
        return int64_t(chosen(*recipe).query_md(query::weights_md).get_size());
    });
}

// Packs the canonical weights for the implementation.
EXPORT int wpk_pack(const Recipe *recipe, const void *canonical, void *blob) {
    return guarded(0, [&] {
        Threads threads(int(recipe->threads));
        memory from(layout(recipe->weights), cpu(), const_cast<void *>(canonical));
        memory to(chosen(*recipe).query_md(query::weights_md), cpu(), blob);
        stream working(cpu());
        reorder(from, to).execute(working, from, to);
        return 1;
    });
}

// A primitive on its buffers, which must outlive it; each has to be as large as the primitive takes it to be.
EXPORT Step *wpk_bind(const Recipe *recipe, const Argument *arguments, int64_t count) {
    return guarded((Step *)nullptr, [&] {
        Threads threads(int(recipe->threads));
        const auto description = chosen(*recipe);
        const auto scratch = description.scratchpad_desc();
        Step step {primitive(description.get()), {}, {}, memory(scratch, cpu(), nullptr), scratch.get_size(), nullptr,
                int(recipe->threads)};
        for (int64_t i = 0; i < count; ++i) {
            const auto &given = arguments[i];
            const auto expected = description.query_md(query::exec_arg_md, int(given.id));
            if (int64_t(expected.get_size()) != given.bytes)
                throw std::length_error("a buffer has " + std::to_string(given.bytes) + " bytes where "
                        + recipe->implementation + " takes " + std::to_string(expected.get_size()));
            step.memories.emplace_back(expected, cpu(), given.data);
            step.arguments.push_back({int(given.id), step.memories.back().get()});
        }
        if (step.scratch_bytes) step.arguments.push_back({DNNL_ARG_SCRATCHPAD, step.scratch.get()});
        return new Step(std::move(step));
    });
}

EXPORT void wpk_free(Step *step) { delete step; }

// Runs a step; 0 or oneDNN's status.
EXPORT int wpk_run(Step *step) {
    Threads threads(step->threads);
    return execute(*step);
}

// Runs steps one after the other up to the first that fails; they all use the threads of the first.
EXPORT int wpk_run_all(Step *const *steps, int64_t count) {
    if (count == 0) return 0;
    Threads threads(steps[0]->threads);
    for (int64_t i = 0; i < count; ++i)
        if (const int status = execute(*steps[i])) return status;
    return 0;
}

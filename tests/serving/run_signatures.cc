// What TensorFlow Serving does with a model: loads EXPORT by TensorFlow's SavedModel loader, and runs each REQUEST, a file
// with a NameAttrList: the name of a signature, and its inputs. The answer, with the outputs, is written to REQUEST.answer;
// its name is the error message, empty without an error. Prints the seconds of each run.
#include <chrono>
#include <iostream>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/platform/env.h"

int main(int count, char** arguments) {
  using namespace tensorflow;
  SavedModelBundle model;
  TF_CHECK_OK(LoadSavedModel({}, {}, arguments[1], {"serve"}, &model));
  for (int i = 2; i < count; ++i) {
    NameAttrList request, answer;
    TF_CHECK_OK(ReadBinaryProto(Env::Default(), arguments[i], &request));
    const SignatureDef& signature = model.GetSignatures().at(request.name());
    std::vector<std::pair<std::string, Tensor>> feeds;
    for (const auto& [name, value] : request.attr()) {
      Tensor tensor;
      CHECK(tensor.FromProto(value.tensor()));
      feeds.emplace_back(signature.inputs().at(name).name(), tensor);
    }
    std::vector<std::string> names, fetches;
    for (const auto& [name, info] : signature.outputs()) names.push_back(name), fetches.push_back(info.name());
    std::vector<Tensor> outputs;
    const auto began = std::chrono::steady_clock::now();
    const auto status = model.GetSession()->Run(feeds, fetches, {}, &outputs);
    std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count() << "\n";
    answer.set_name(std::string(status.message()));
    for (size_t j = 0; j < outputs.size(); ++j)
      outputs[j].AsProtoField((*answer.mutable_attr())[names[j]].mutable_tensor());
    TF_CHECK_OK(WriteBinaryProto(Env::Default(), std::string(arguments[i]) + ".answer", answer));
  }
}

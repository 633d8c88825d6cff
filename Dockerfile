# Trains and evaluates; has not been built yet.
#   docker build -t aigan .
#   mkdir -p runs
#   docker run --user "$(id -u):$(id -g)" -v "$PWD/runs:/aigan/runs" aigan
# Any other command: docker run ... aigan python -m aigan_tf attack photo.png --target=cat
FROM python:3.12-slim
WORKDIR /aigan
ENV HOME=/tmp PYTHONUNBUFFERED=1
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
CMD ["sh", "-c", "python train.py && python evaluate.py --attacks=aigan,fgsm,pgd"]
